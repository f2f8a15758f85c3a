import { internal } from '../../errors/error.js';
import type { GraphBuilder } from '../../onnx/builder.js';
import type { Tensor, Value } from '../../onnx/ir.js';
import { inlineTensor } from '../../onnx/tensor.js';
import { blocksOf, blockSize, packedBytes, type Bits, type QuantisedArrays } from './blocks.js';

/** A quantised matrix as tensors, in memory or in a file; shapes as `QuantisedArrays` has them. */
export interface QuantisedTensors {
  readonly bits: Bits;
  readonly rows: number;
  readonly columns: number;
  readonly packed: Tensor;
  readonly scales: Tensor;
  readonly zeros: Tensor;
}

/** A quantised matrix in a graph. */
export interface QuantisedMatrix {
  readonly bits: Bits;
  readonly rows: number;
  readonly columns: number;
  readonly packed: Value;
  readonly scales: Value;
  readonly zeros: Value;
}

/** The weight of a linear layer, [out, in]: plain, or quantised (for serving alone). */
export type Matrix = Value | QuantisedMatrix;

export function isQuantised(matrix: Matrix): matrix is QuantisedMatrix {
  return 'packed' in matrix;
}

/** A matrix that is to be differentiated or transposed. Throws INTERNAL for a quantised one. */
export function plainMatrix(matrix: Matrix): Value {
  if (isQuantised(matrix)) throw internal(`${matrix.packed.name} is quantised, which the fused lowering alone takes`);
  return matrix;
}

/** The parts of a quantised matrix: their types and shapes. */
export function quantisedParts({ bits, rows, columns }: Pick<QuantisedArrays, 'bits' | 'rows' | 'columns'>) {
  const blocks = blocksOf(columns);
  return {
    packed: { type: 'uint8', shape: [rows, blocks, packedBytes(blockSize, bits)] },
    scales: { type: 'float32', shape: [rows, blocks] },
    zeros: { type: 'uint8', shape: [rows, packedBytes(blocks, bits)] },
  } as const;
}

/** The arrays as tensors in memory. */
export function tensorsOf(arrays: QuantisedArrays): QuantisedTensors {
  const { bits, rows, columns, packed, scales, zeros } = arrays;
  const parts = quantisedParts(arrays);
  return {
    bits,
    rows,
    columns,
    packed: inlineTensor('uint8', parts.packed.shape, packed),
    scales: inlineTensor('float32', parts.scales.shape, scales),
    zeros: inlineTensor('uint8', parts.zeros.shape, zeros),
  };
}

/** The matrix as initializers `<name>.packed`, `.scales` and `.zeros`. */
export function bindQuantised(g: GraphBuilder, name: string, tensors: QuantisedTensors): QuantisedMatrix {
  const { bits, rows, columns, packed, scales, zeros } = tensors;
  return {
    bits,
    rows,
    columns,
    packed: g.initializer(`${name}.packed`, packed),
    scales: g.initializer(`${name}.scales`, scales),
    zeros: g.initializer(`${name}.zeros`, zeros),
  };
}
