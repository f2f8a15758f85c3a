import { createHash } from 'node:crypto';
import { mkdir, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { internal } from '../../errors/error.js';
import type { Tensor } from '../../onnx/ir.js';
import type { CausalSpec } from '../architectures/gpt-neox.js';
import { causalSpecOf } from '../causal-lm.js';
import type { Checkpoint } from '../checkpoint.js';
import { packedName, packedRows, permutedRows } from '../packed-attention.js';
import { weightValues } from '../tensor-values.js';
import { checkpointWeights } from '../weights.js';
import { blockSize, type Bits } from './blocks.js';
import { readQuantised, writeQuantised, type MatrixToQuantise } from './file.js';
import type { QuantisedTensors } from './matrix.js';

/** A matrix of a language model, by the name that its tensor has in the checkpoint. */
export interface NetworkMatrix {
  readonly name: string;
  readonly rows: number;
  readonly columns: number;
}

/** Bits of a weight, by the names of the matrices; those that are not there stay float32. */
export type BitsByMatrix = ReadonlyMap<string, Bits>;

/**
 * For which graph: with the checkpoint's own tensors (whole sequences), or with the attention's queries, keys and values packed as the
 * generation graph wants them.
 */
export type MatrixLayout = 'checkpoint' | 'generation';

/** The matrices that may be quantised: those of the blocks, the vocabulary's, and the embeddings where their rows fill whole blocks. */
export function quantisableMatrices(spec: CausalSpec): NetworkMatrix[] {
  const { prefix, hidden, headWidth, vocabulary } = spec;
  const ofBlocks = spec.blocks.flatMap(({ heads, neurons }, block): NetworkMatrix[] => {
    const name = (part: string) => `${prefix}.layers.${block}.${part}.weight`;
    const inner = heads * headWidth;
    return [
      { name: name('attention.query_key_value'), rows: 3 * inner, columns: hidden },
      { name: name('attention.dense'), rows: hidden, columns: inner },
      { name: name('mlp.dense_h_to_4h'), rows: neurons, columns: hidden },
      { name: name('mlp.dense_4h_to_h'), rows: hidden, columns: neurons },
    ];
  });
  const embedding = { name: `${prefix}.embed_in.weight`, rows: vocabulary, columns: hidden };
  const table = hidden % blockSize === 0 ? [embedding] : [];
  const head = spec.tied ? [] : [{ name: 'embed_out.weight', rows: vocabulary, columns: hidden }];
  // A block may have lost all of its heads or neurons.
  return [...table, ...ofBlocks, ...head].filter(({ rows, columns }) => rows > 0 && columns > 0);
}

/** Every matrix with as many bits. */
export function uniformBits(spec: CausalSpec, bits: Bits): BitsByMatrix {
  return new Map(quantisableMatrices(spec).map(({ name }) => [name, bits]));
}

export interface QuantiseOptions {
  /** Where the file comes to lie; of the same matrices with the same bits it is written once. */
  readonly workDirectory: string;
  readonly layout: MatrixLayout;
  /** Float32 tensors that pruning made smaller. */
  readonly replaced?: ReadonlyMap<string, Tensor>;
}

/**
 * Quantises matrices of a checkpoint (of any float type) into a safetensors file, one at a time in memory. Gives the tensors by the names that
 * the graph of that layout binds, for `quantisedWeights`.
 */
export async function quantiseNetwork(
  checkpoint: Checkpoint,
  bits: BitsByMatrix,
  { workDirectory, layout, replaced = new Map() }: QuantiseOptions,
): Promise<ReadonlyMap<string, QuantisedTensors>> {
  const spec = causalSpecOf(checkpoint, checkpointWeights(checkpoint, replaced));
  const known = new Map(quantisableMatrices(spec).map((matrix) => [matrix.name, matrix]));
  const content = createHash('sha256').update(`${checkpoint.digest} ${layout} of ${algorithm}`);
  const matrices = [...bits].map(([name, width]): MatrixToQuantise => {
    const matrix = known.get(name);
    if (!matrix) throw internal(`${checkpoint.directory}: ${name} is no matrix that can be quantised`);
    content.update(`${name}:${width};`);
    const instead = replaced.get(name);
    if (instead?.data.kind === 'inline') content.update(instead.data.bytes);
    const values = () => weightValues(checkpoint, replaced, name);
    const block = layout === 'generation' ? attentionBlock(name) : undefined;
    if (block === undefined) return { ...matrix, bits: width, values };
    const order = packedRows(spec, spec.blocks[block]!.heads);
    const permuted = async () => permutedRows(await values(), order);
    return { ...matrix, name: `${packedName(spec, block)}.weight`, bits: width, values: permuted };
  });
  if (matrices.length === 0) return new Map();
  await mkdir(workDirectory, { recursive: true });
  const file = resolve(join(workDirectory, `${content.digest('hex').slice(0, 16)}-quantised.safetensors`));
  if (!(await stat(file).catch(() => undefined))?.isFile()) await writeQuantised(file, matrices);
  return readQuantised(file, matrices);
}

/** Counts up when the same weights become other numbers. */
const algorithm = 1;

/** Of the queries, keys and values of a block: which. */
function attentionBlock(name: string): number | undefined {
  const block = /\.layers\.(\d+)\.attention\.query_key_value\.weight$/.exec(name)?.[1];
  return block === undefined ? undefined : Number(block);
}
