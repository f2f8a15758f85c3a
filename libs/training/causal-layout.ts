/** A trained language model in Hugging Face's layout: config.json, generation_config.json, tokenizer.json, model.safetensors. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { makeFolders } from '../errors/make-folders.js';
import { toFloat16 } from '../models/float16.js';
import { writeSafetensors } from '../models/safetensors.js';
import type { CausalShape } from './causal-graph.js';
import type { Parameters } from './parameters.js';

/** Writes the files to `directory`, which is made if it is missing; the weights as float16. */
export async function writeCausalCheckpoint(
  directory: string,
  model: CausalShape,
  tokenizerJson: string,
  endOfText: number,
  parameters: Parameters,
): Promise<void> {
  await makeFolders(directory);
  const writeJson = (name: string, value: unknown) =>
    writeFile(join(directory, name), `${JSON.stringify(value, undefined, 2)}\n`);
  const marks = { bos_token_id: endOfText, eos_token_id: endOfText };
  await writeJson('config.json', {
    architectures: ['GPTNeoXForCausalLM'],
    attention_bias: true,
    attention_dropout: 0,
    ...marks,
    dtype: 'float16',
    hidden_act: 'gelu',
    hidden_dropout: 0,
    hidden_size: model.hidden,
    initializer_range: 0.02,
    intermediate_size: model.intermediate,
    layer_norm_eps: model.epsilon,
    max_position_embeddings: model.context,
    model_type: 'gpt_neox',
    num_attention_heads: model.heads,
    num_hidden_layers: model.layers,
    rotary_emb_base: 10_000,
    rotary_pct: model.rotary,
    tie_word_embeddings: false,
    use_cache: true,
    use_parallel_residual: true,
    vocab_size: model.vocabulary,
  });
  await writeJson('generation_config.json', { _from_model_config: true, ...marks });
  await writeJson('tokenizer_config.json', {
    add_prefix_space: false,
    bos_token: '<|endoftext|>',
    clean_up_tokenization_spaces: false,
    eos_token: '<|endoftext|>',
    model_max_length: model.context,
    tokenizer_class: 'PreTrainedTokenizerFast',
    unk_token: '<|endoftext|>',
  });
  await writeFile(join(directory, 'tokenizer.json'), tokenizerJson);
  const tensors = parameters.list.map(({ name, dims }) => {
    const halves = Uint16Array.from(parameters.view(name), toFloat16);
    return { name, type: 'float16' as const, shape: dims, bytes: new Uint8Array(halves.buffer) };
  });
  await writeSafetensors(join(directory, 'model.safetensors'), tensors, { format: 'pt' });
}
