import type { GatedShape } from '../../models/gates.js';
import type { TensorValue } from '../../runtime/tensor.js';
import { FIXED_KINDS, type FixedKind } from '../tasks/task.js';
import type { RemovedUnits } from './remove.js';

/** The gates on heads and neurons for so many samples, by kind: [size, Σ units], on what is removed 0, or what is `left` of it. */
export function gatesWithout(
  blocks: GatedShape['blocks'],
  removed: RemovedUnits,
  size: number,
  left = 0,
): Readonly<Record<FixedKind, TensorValue>> {
  const [heads, neurons] = FIXED_KINDS.map((kind) => gatesOfKind(blocks, kind, removed, size, left));
  return { heads: heads!, neurons: neurons! };
}

function gatesOfKind(
  blocks: GatedShape['blocks'],
  kind: FixedKind,
  removed: RemovedUnits,
  size: number,
  left: number,
): TensorValue {
  const units = blocks.map((block) => block[kind]);
  const total = units.reduce((sum, n) => sum + n, 0);
  const row = new Float32Array(total).fill(1);
  let first = 0;
  units.forEach((count, block) => {
    for (const unit of removed[kind][block] ?? []) row[first + unit] = left;
    first += count;
  });
  const data = new Float32Array(size * total);
  for (let sample = 0; sample < size; sample++) data.set(row, sample * total);
  return { type: 'float32', dims: [size, total], data };
}
