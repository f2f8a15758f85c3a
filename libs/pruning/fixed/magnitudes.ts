import type { Checkpoint } from '../../models/checkpoint.js';
import { readTensor } from '../../models/safetensors.js';
import type { FixedKind } from '../tasks/task.js';
import { locate, type UnitLayout, type UnitTensors } from './layout.js';

/** The summed squares of all weights that go with each unit, kind by kind and block by block. */
export async function squaredNorms(
  checkpoint: Checkpoint,
  layout: UnitLayout,
  kinds: readonly FixedKind[],
): Promise<Float64Array> {
  const parts: Float64Array[] = [];
  for (const kind of kinds) {
    for (const block of layout) parts.push(await normsOf(checkpoint, block[kind]));
  }
  const all = new Float64Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

async function normsOf(checkpoint: Checkpoint, { units, rows, columns }: UnitTensors): Promise<Float64Array> {
  const norms = new Float64Array(units);
  for (const tensor of rows) {
    const location = locate(checkpoint, tensor);
    if (!location) continue;
    const values = await readTensor(location);
    const length = values.length / units;
    for (let at = 0; at < values.length; at++) norms[Math.floor(at / length)]! += values[at]! ** 2;
  }
  for (const tensor of columns) {
    const location = locate(checkpoint, tensor)!;
    const values = await readTensor(location);
    const width = location.shape[1]!;
    for (let at = 0; at < values.length; at++) norms[Math.floor((at % width) / tensor.width)]! += values[at]! ** 2;
  }
  return norms;
}
