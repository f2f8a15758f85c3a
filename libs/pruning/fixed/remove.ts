import { internal } from '../../errors/error.js';
import type { Checkpoint } from '../../models/checkpoint.js';
import type { ClassifierSpec } from '../../models/architectures/transformer.js';
import { readTensor } from '../../models/safetensors.js';
import type { Tensor } from '../../onnx/ir.js';
import { floatTensor } from '../../onnx/tensor.js';

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
 * The tensors that get smaller, by name: of a removed head its rows of the query, key and value projections and its columns of the
 * output projection; of a removed neuron its row of the first and its column of the second MLP matrix. A gate of 0 on the unit and
 * its removal give the same function.
 */
export async function removeUnits(
  checkpoint: Checkpoint,
  spec: ClassifierSpec,
  removed: RemovedUnits,
): Promise<ReadonlyMap<string, Tensor>> {
  const replaced = new Map<string, Tensor>();
  const keepRows = async (name: string, rows: readonly number[], optional = false) => {
    const location = checkpoint.tensors.get(name);
    if (!location) {
      if (optional) return;
      throw internal(`${checkpoint.directory}: tensor ${name} is missing`);
    }
    const width = location.shape.slice(1).reduce((a, b) => a * b, 1);
    const values = await readTensor(location);
    const kept = new Float32Array(rows.length * width);
    rows.forEach((row, at) => kept.set(values.subarray(row * width, (row + 1) * width), at * width));
    replaced.set(name, floatTensor('float32', [rows.length, ...location.shape.slice(1)], kept));
  };
  const keepColumns = async (name: string, columns: readonly number[]) => {
    const location = checkpoint.tensors.get(name);
    if (!location) throw internal(`${checkpoint.directory}: tensor ${name} is missing`);
    const [rows, width] = [location.shape[0]!, location.shape[1]!];
    const values = await readTensor(location);
    const kept = new Float32Array(rows * columns.length);
    for (let row = 0; row < rows; row++) {
      columns.forEach((column, at) => (kept[row * columns.length + at] = values[row * width + column]!));
    }
    replaced.set(name, floatTensor('float32', [rows, columns.length], kept));
  };
  for (const [block, { heads, neurons }] of spec.blocks.entries()) {
    const name = `${spec.family.prefix}.encoder.layer.${block}`;
    const goneHeads = new Set(removed.heads[block]);
    if (goneHeads.size > 0) {
      const rows = all(heads)
        .filter((head) => !goneHeads.has(head))
        .flatMap((head) => all(spec.headWidth).map((d) => head * spec.headWidth + d));
      for (const part of ['query', 'key', 'value']) {
        await keepRows(`${name}.attention.attention.${part}.weight`, rows);
        await keepRows(`${name}.attention.attention.${part}.bias`, rows, true);
      }
      await keepColumns(`${name}.attention.output.dense.weight`, rows);
    }
    const goneNeurons = new Set(removed.neurons[block]);
    if (goneNeurons.size > 0) {
      const kept = all(neurons).filter((neuron) => !goneNeurons.has(neuron));
      await keepRows(`${name}.intermediate.dense.weight`, kept);
      await keepRows(`${name}.intermediate.dense.bias`, kept, true);
      await keepColumns(`${name}.output.dense.weight`, kept);
    }
  }
  return replaced;
}

const all = (count: number): number[] => [...Array(count).keys()];
