import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { xoroshiro128plus } from 'pure-rand/generator/xoroshiro128plus';
import { toBfloat16, toFloat16 } from '../float16.js';
import { writeSafetensors, type TensorToWrite } from '../safetensors.js';

/** Sizes of a GPT-NeoX with random weights. */
export interface RandomCausalShape {
  readonly hidden: number;
  readonly layers: number;
  readonly heads: number;
  readonly intermediate: number;
  readonly vocabulary: number;
  readonly context: number;
  /** Of each block, as pruning leaves them; default as in the config. */
  readonly blocks?: readonly { readonly heads: number; readonly neurons: number }[];
  readonly rotaryShare?: number;
  readonly rotaryBase?: number;
  /** Where the config says how positions turn: `rope_parameters`, or `rotary_pct` and `rotary_emb_base`. Default the former. */
  readonly rotaryFields?: 'new' | 'old';
  readonly parallelResidual?: boolean;
  readonly tied?: boolean;
  readonly activation?: string;
  readonly attentionBias?: boolean;
  readonly epsilon?: number;
  /** Of the weights. Default float32. */
  readonly type?: 'float32' | 'float16' | 'bfloat16';
  /** Files that the weights are spread over, with an index beside them. Default one file without an index. */
  readonly shards?: number;
  /** Names of the tensors that old versions of transformers saved beside the weights are there as well. */
  readonly buffers?: boolean;
  readonly seed?: number;
}

/** The shapes of EleutherAI/pythia-14m … 410m (their weights are not here). */
const pythia = { vocabulary: 50_304, context: 2048, rotaryShare: 0.25, parallelResidual: true, tied: false };
export const pythiaShapes = {
  '14m': { ...pythia, hidden: 128, layers: 6, heads: 4, intermediate: 512 },
  '70m': { ...pythia, hidden: 512, layers: 6, heads: 8, intermediate: 2048 },
  '160m': { ...pythia, hidden: 768, layers: 12, heads: 12, intermediate: 3072 },
  '410m': { ...pythia, hidden: 1024, layers: 24, heads: 16, intermediate: 4096 },
  '1b': { ...pythia, hidden: 2048, layers: 16, heads: 8, intermediate: 8192 },
} satisfies Record<string, RandomCausalShape>;

/**
 * Writes a checkpoint folder of a GPT-NeoX in Hugging Face's layout; matrices are uniform with variance 1/inputs. The tensors are
 * made one after another, so that large models need no memory. Gives the folder.
 */
export async function writeRandomCausalLm(folder: string, shape: RandomCausalShape): Promise<string> {
  const { hidden, layers, heads, intermediate, vocabulary, context, attentionBias = true, tied = false } = shape;
  const headWidth = hidden / heads;
  const blocks = shape.blocks ?? Array.from({ length: layers }, () => ({ heads, neurons: intermediate }));
  const tensors: TensorToWrite[] = [];
  let drawn = 0;
  const put = (name: string, dims: readonly number[], spread: number, centre = 0) =>
    tensors.push(randomTensor(name, dims, spread, centre, shape, drawn++));
  const linear = (name: string, outputs: number, inputs: number, biased = true) => {
    put(`${name}.weight`, [outputs, inputs], Math.sqrt(3 / inputs));
    if (biased) put(`${name}.bias`, [outputs], 0.1);
  };
  const norm = (name: string) => {
    put(`${name}.weight`, [hidden], 0.2, 1);
    put(`${name}.bias`, [hidden], 0.1);
  };
  put('gpt_neox.embed_in.weight', [vocabulary, hidden], tied ? Math.sqrt(3 / hidden) : 1);
  for (const [layer, block] of blocks.entries()) {
    const name = `gpt_neox.layers.${layer}`;
    norm(`${name}.input_layernorm`);
    norm(`${name}.post_attention_layernorm`);
    const width = block.heads * headWidth;
    linear(`${name}.attention.query_key_value`, 3 * width, hidden, attentionBias);
    linear(`${name}.attention.dense`, hidden, width, attentionBias);
    linear(`${name}.mlp.dense_h_to_4h`, block.neurons, hidden);
    linear(`${name}.mlp.dense_4h_to_h`, hidden, block.neurons);
    if (shape.buffers) tensors.push(...buffersOf(name, context));
  }
  norm('gpt_neox.final_layer_norm');
  if (!tied) put('embed_out.weight', [vocabulary, hidden], Math.sqrt(3 / hidden));
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, 'config.json'), `${JSON.stringify(configOf(shape), undefined, 2)}\n`);
  await writeShards(folder, tensors, shape.shards);
  return folder;
}

function configOf(shape: RandomCausalShape): Record<string, unknown> {
  const { rotaryShare = 0.25, rotaryBase = 10_000 } = shape;
  const rotary =
    shape.rotaryFields === 'old'
      ? { rotary_pct: rotaryShare, rotary_emb_base: rotaryBase }
      : { rope_parameters: { rope_type: 'default', rope_theta: rotaryBase, partial_rotary_factor: rotaryShare } };
  return {
    architectures: ['GPTNeoXForCausalLM'],
    model_type: 'gpt_neox',
    hidden_size: shape.hidden,
    num_hidden_layers: shape.layers,
    num_attention_heads: shape.heads,
    intermediate_size: shape.intermediate,
    vocab_size: shape.vocabulary,
    max_position_embeddings: shape.context,
    hidden_act: shape.activation ?? 'gelu',
    layer_norm_eps: shape.epsilon ?? 1e-5,
    use_parallel_residual: shape.parallelResidual ?? true,
    tie_word_embeddings: shape.tied ?? false,
    attention_bias: shape.attentionBias ?? true,
    bos_token_id: 0,
    eos_token_id: 0,
    ...rotary,
  };
}

/** Each tensor draws from a stream of its own, so that it does not depend on when it is made. */
function randomTensor(
  name: string,
  dims: readonly number[],
  spread: number,
  centre: number,
  { seed = 1, type = 'float32' }: RandomCausalShape,
  index: number,
): TensorToWrite {
  const bytes = async () => {
    const random = xoroshiro128plus(seed * 65_537 + index);
    const values = new Float32Array(dims.reduce((a, b) => a * b, 1));
    for (let i = 0; i < values.length; i++) values[i] = centre + (spread * random.next()) / 2 ** 31;
    const narrowed =
      type === 'float32' ? values : Uint16Array.from(values, type === 'float16' ? toFloat16 : toBfloat16);
    return new Uint8Array(narrowed.buffer);
  };
  return { name, type, shape: dims, bytes };
}

/** The causal mask, minus infinity and the rotary speeds. */
function buffersOf(name: string, context: number): TensorToWrite[] {
  const infinity = new Uint8Array(Uint16Array.of(0xfc00).buffer);
  return [
    { name: `${name}.attention.bias`, type: 'bool', shape: [1, 1, context, context], bytes: new Uint8Array(context ** 2) },
    { name: `${name}.attention.masked_bias`, type: 'float16', shape: [], bytes: infinity },
    { name: `${name}.attention.rotary_emb.inv_freq`, type: 'float16', shape: [1], bytes: new Uint8Array(2) },
  ];
}

async function writeShards(folder: string, tensors: readonly TensorToWrite[], shards = 1): Promise<void> {
  if (shards === 1) return writeSafetensors(join(folder, 'model.safetensors'), tensors);
  const weightMap: Record<string, string> = {};
  for (let shard = 0; shard < shards; shard++) {
    const file = `model-${String(shard + 1).padStart(5, '0')}-of-${String(shards).padStart(5, '0')}.safetensors`;
    const part = tensors.filter((_, i) => i % shards === shard);
    for (const { name } of part) weightMap[name] = file;
    await writeSafetensors(join(folder, file), part);
  }
  await writeFile(join(folder, 'model.safetensors.index.json'), JSON.stringify({ metadata: {}, weight_map: weightMap }));
}
