import { internal } from '../errors/error.js';
import type { FloatType } from './builder.js';
import { elementSize, type Tensor } from './ir.js';

/** A float tensor in memory. */
export function floatTensor(type: FloatType, dims: readonly number[], values: ArrayLike<number>): Tensor {
  const array = type === 'float32' ? Float32Array.from(values) : Float64Array.from(values);
  return inlineTensor(type, dims, array);
}

/** An int64 tensor in memory. */
export function integerTensor(dims: readonly number[], values: ArrayLike<number>): Tensor {
  return inlineTensor('int64', dims, BigInt64Array.from(Array.from(values, (v) => BigInt(v))));
}

/** A boolean tensor in memory. */
export function booleanTensor(dims: readonly number[], values: readonly boolean[]): Tensor {
  return inlineTensor(
    'bool',
    dims,
    Uint8Array.from(values, (v) => (v ? 1 : 0)),
  );
}

/** A tensor over the bytes of a typed array. Throws when the element count and the shape disagree. */
export function inlineTensor(
  type: Exclude<Tensor['type'], 'string'>,
  dims: readonly number[],
  data: ArrayBufferView,
): Tensor {
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  const expected = dims.reduce((a, b) => a * b, 1) * elementSize[type];
  if (bytes.length !== expected) {
    throw internal(`a ${type} tensor [${dims.join(', ')}] takes ${expected} bytes, not ${bytes.length}`);
  }
  return { type, dims: [...dims], data: { kind: 'inline', bytes } };
}

/** The numbers of an inline tensor (int64 as numbers); undefined when they lie in a file. */
export function numbersOf(tensor: Tensor): readonly number[] | undefined {
  if (tensor.data.kind !== 'inline') return undefined;
  const { bytes } = tensor.data;
  const buffer = bytes.slice().buffer;
  switch (tensor.type) {
    case 'float32':
      return Array.from(new Float32Array(buffer));
    case 'float64':
      return Array.from(new Float64Array(buffer));
    case 'int64':
      return Array.from(new BigInt64Array(buffer), Number);
    case 'int32':
      return Array.from(new Int32Array(buffer));
    case 'uint8':
    case 'bool':
      return Array.from(bytes);
    case 'int8':
      return Array.from(new Int8Array(buffer));
    default:
      return undefined;
  }
}
