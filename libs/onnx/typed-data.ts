import type { TensorProto } from './gen/onnx.js';
import type { ElementType } from './ir.js';

/**
 * The little-endian bytes of a tensor inside the protobuf: raw_data, or one of the typed fields that the specification allows
 * in its place (float_data, int32_data for everything of 32 bits or fewer, int64_data, double_data).
 */
export function rawBytesOf(proto: TensorProto, type: Exclude<ElementType, 'string'>): Uint8Array {
  if (proto.rawData !== undefined) return proto.rawData;
  switch (type) {
    case 'float32':
      return pack(proto.floatData, 4, (view, at, value) => view.setFloat32(at, value, true));
    case 'float64':
      return pack(proto.doubleData, 8, (view, at, value) => view.setFloat64(at, value, true));
    case 'int64':
      return pack(proto.int64Data, 8, (view, at, value) => view.setBigInt64(at, value, true));
    case 'int32':
      return pack(proto.int32Data, 4, (view, at, value) => view.setInt32(at, value, true));
    case 'float16':
    case 'bfloat16':
      return pack(proto.int32Data, 2, (view, at, value) => view.setUint16(at, value, true));
    case 'int8':
    case 'uint8':
    case 'bool':
      return pack(proto.int32Data, 1, (view, at, value) => view.setUint8(at, value));
  }
}

function pack<T>(values: readonly T[], size: number, set: (view: DataView, at: number, value: T) => void): Uint8Array {
  const view = new DataView(new ArrayBuffer(values.length * size));
  values.forEach((value, index) => set(view, index * size, value));
  return new Uint8Array(view.buffer);
}
