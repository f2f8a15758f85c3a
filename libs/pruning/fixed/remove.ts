import type { Checkpoint } from '../../models/checkpoint.js';
import { readTensor } from '../../models/safetensors.js';
import type { Tensor } from '../../onnx/ir.js';
import { floatTensor } from '../../onnx/tensor.js';
import { locate, type UnitLayout, type UnitTensor, type UnitTensors } from './layout.js';

/** What is removed for good: by block, the indices of heads and of MLP neurons. */
export interface RemovedUnits {
  readonly heads: readonly (readonly number[])[];
  readonly neurons: readonly (readonly number[])[];
}

/** Nothing of a network with so many blocks. */
export function nothingRemoved(blocks: number): RemovedUnits {
  const none = Array.from({ length: blocks }, () => []);
  return { heads: none, neurons: none };
}

/**
 * The tensors that get smaller, by name: of every removed unit its rows and columns. A gate of 0 on the unit and its removal give the
 * same function.
 */
export async function removeUnits(
  checkpoint: Checkpoint,
  layout: UnitLayout,
  removed: RemovedUnits,
): Promise<ReadonlyMap<string, Tensor>> {
  const replaced = new Map<string, Tensor>();
  for (const [block, { heads, neurons }] of layout.entries()) {
    await withoutUnits(checkpoint, heads, removed.heads[block] ?? [], replaced);
    await withoutUnits(checkpoint, neurons, removed.neurons[block] ?? [], replaced);
  }
  return replaced;
}

async function withoutUnits(
  checkpoint: Checkpoint,
  { units, rows, columns }: UnitTensors,
  gone: readonly number[],
  replaced: Map<string, Tensor>,
): Promise<void> {
  if (gone.length === 0) return;
  const lost = new Set(gone);
  const left = Array.from({ length: units }, (_, unit) => unit).filter((unit) => !lost.has(unit));
  for (const tensor of rows) await keepRows(checkpoint, tensor, left, replaced);
  for (const tensor of columns) await keepColumns(checkpoint, tensor, left, replaced);
}

async function keepRows(
  checkpoint: Checkpoint,
  tensor: UnitTensor,
  units: readonly number[],
  replaced: Map<string, Tensor>,
): Promise<void> {
  const location = locate(checkpoint, tensor);
  if (!location) return;
  const inner = location.shape.slice(1);
  const length = tensor.width * inner.reduce((a, b) => a * b, 1);
  const values = await readTensor(location);
  const kept = new Float32Array(units.length * length);
  units.forEach((unit, at) => kept.set(values.subarray(unit * length, (unit + 1) * length), at * length));
  replaced.set(tensor.name, floatTensor('float32', [units.length * tensor.width, ...inner], kept));
}

async function keepColumns(
  checkpoint: Checkpoint,
  tensor: UnitTensor,
  units: readonly number[],
  replaced: Map<string, Tensor>,
): Promise<void> {
  const { width } = tensor;
  const location = locate(checkpoint, tensor)!;
  const [rows, columns] = [location.shape[0]!, location.shape[1]!];
  const values = await readTensor(location);
  const kept = new Float32Array(rows * units.length * width);
  for (let row = 0; row < rows; row++) {
    units.forEach((unit, at) => {
      const from = row * columns + unit * width;
      kept.set(values.subarray(from, from + width), (row * units.length + at) * width);
    });
  }
  replaced.set(tensor.name, floatTensor('float32', [rows, units.length * width], kept));
}
