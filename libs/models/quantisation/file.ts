import { internal } from '../../errors/error.js';
import type { Tensor } from '../../onnx/ir.js';
import { readSafetensors, writeSafetensors, type TensorLocation, type TensorToWrite } from '../safetensors.js';
import type { Bits, QuantisedArrays } from './blocks.js';
import { quantisedParts, type QuantisedTensors } from './matrix.js';
import { quantise } from './quantise.js';

/** A matrix that is to be quantised; its numbers [rows, columns] are asked for when its turn comes. */
export interface MatrixToQuantise {
  readonly name: string;
  readonly bits: Bits;
  readonly rows: number;
  readonly columns: number;
  readonly values: () => Promise<Float32Array>;
}

const partNames = ['packed', 'scales', 'zeros'] as const;

/**
 * Quantises matrices into a safetensors file (`<name>.packed`, `.scales`, `.zeros`), one after the other, so that one alone is in memory. The
 * same matrices make the same bytes.
 */
export async function writeQuantised(file: string, matrices: readonly MatrixToQuantise[]): Promise<void> {
  await writeSafetensors(file, matrices.flatMap(partsToWrite));
}

/** The tensors of a file that was written so, as ranges of it, by the matrices' names. */
export async function readQuantised(
  file: string,
  matrices: readonly Omit<MatrixToQuantise, 'values'>[],
): Promise<ReadonlyMap<string, QuantisedTensors>> {
  const { tensors } = await readSafetensors(file);
  return new Map(
    matrices.map(({ name, bits, rows, columns }) => {
      const [packed, scales, zeros] = partNames.map((part) => external(tensors.get(`${name}.${part}`)));
      return [name, { bits, rows, columns, packed: packed!, scales: scales!, zeros: zeros! }];
    }),
  );
}

function partsToWrite(matrix: MatrixToQuantise): TensorToWrite[] {
  const { name, bits, rows, columns, values } = matrix;
  const parts = quantisedParts(matrix);
  // The parts are written in order, so the first makes the arrays and the last lets go of them.
  let arrays: QuantisedArrays | undefined;
  return partNames.map((part) => ({
    name: `${name}.${part}`,
    type: parts[part].type,
    shape: parts[part].shape,
    bytes: async () => {
      const made = (arrays ??= quantise(await values(), rows, columns, bits));
      if (part === 'zeros') arrays = undefined;
      const view = made[part];
      return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
    },
  }));
}

function external(location: TensorLocation | undefined): Tensor {
  if (!location) throw internal('a tensor that was written is not in its file');
  const { type, shape, file, offset, length } = location;
  return { type, dims: shape, data: { kind: 'external', file, offset, length } };
}
