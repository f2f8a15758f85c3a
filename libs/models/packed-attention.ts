import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Tensor } from '../onnx/ir.js';
import type { CausalSpec } from './architectures/gpt-neox.js';
import { causalSpecOf } from './causal-lm.js';
import type { Checkpoint } from './checkpoint.js';
import { kernelOrder, kernelRotary } from './layers/rotary.js';
import { readSafetensors, writeSafetensors, type TensorToWrite } from './safetensors.js';
import { weightValues } from './tensor-values.js';
import { checkpointWeights, checkWeight } from './weights.js';

/** The name of a block's queries, keys and values as the attention kernel wants them: all queries, then all keys, then all values. */
export function packedName(spec: Pick<CausalSpec, 'prefix'>, block: number): string {
  return `${spec.prefix}.layers.${block}.attention.packed_query_key_value`;
}

/**
 * For each row of a packed matrix the row of the checkpoint's, where every head has its query, key and value together. Queries and keys are in
 * the order that the kernel turns them in.
 */
export function packedRows({ rotary, headWidth }: Pick<CausalSpec, 'rotary' | 'headWidth'>, heads: number): Int32Array {
  const padded = kernelRotary(rotary, headWidth);
  const plain = Array.from({ length: headWidth }, (_, i) => i);
  const order = padded === undefined ? plain : kernelOrder(rotary, headWidth, padded);
  const rows = new Int32Array(3 * heads * headWidth);
  for (let part = 0; part < 3; part++) {
    for (let head = 0; head < heads; head++) {
      const within = part === 2 ? plain : order;
      for (let d = 0; d < headWidth; d++) {
        rows[(part * heads + head) * headWidth + d] = (head * 3 + part) * headWidth + within[d]!;
      }
    }
  }
  return rows;
}

/**
 * What the generation graph reads beside the checkpoint's own tensors: `replaced` (float32, those that pruning made smaller) and the packed
 * queries, keys and values, which are written once to a safetensors file in `workDirectory`, a tensor at a time. The checkpoint must be float32.
 * Throws INVALID_ARGUMENT naming a tensor that is missing or has another shape.
 */
export async function packAttention(
  checkpoint: Checkpoint,
  workDirectory: string,
  replaced: ReadonlyMap<string, Tensor> = new Map(),
): Promise<ReadonlyMap<string, Tensor>> {
  const weights = checkpointWeights(checkpoint, replaced);
  const spec = causalSpecOf(checkpoint, weights);
  const content = createHash('sha256').update(checkpoint.digest);
  const written: TensorToWrite[] = [];
  for (const [block, { heads }] of spec.blocks.entries()) {
    const rows = packedRows(spec, heads);
    for (const part of spec.attentionBias ? ['weight', 'bias'] : ['weight']) {
      const name = `${spec.prefix}.layers.${block}.attention.query_key_value.${part}`;
      const known = replaced.get(name);
      if (known?.data.kind === 'inline') content.update(name).update(known.data.bytes);
      const shape = part === 'weight' ? [rows.length, spec.hidden] : [rows.length];
      checkWeight(weights, name, shape);
      const bytes = async () => {
        const values = await weightValues(checkpoint, replaced, name);
        return new Uint8Array(permutedRows(values, rows).buffer);
      };
      written.push({ name: `${packedName(spec, block)}.${part}`, type: 'float32', shape, bytes });
    }
  }
  const file = resolve(workDirectory, `${content.digest('hex').slice(0, 16)}-attention.safetensors`);
  if (!(await stat(file).catch(() => undefined))?.isFile()) await writeSafetensors(file, written);
  const { tensors } = await readSafetensors(file);
  const packed = new Map(replaced);
  for (const { name, type, shape, offset, length } of tensors.values()) {
    packed.set(name, { type, dims: shape, data: { kind: 'external', file, offset, length } });
  }
  return packed;
}

/** Rows (numbers, of a vector) in another order. */
export function permutedRows(values: Float32Array, rows: Int32Array): Float32Array {
  const width = values.length / rows.length;
  const result = new Float32Array(values.length);
  rows.forEach((row, at) => result.set(values.subarray(row * width, (row + 1) * width), at * width));
  return result;
}
