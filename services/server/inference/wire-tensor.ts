import { invalid } from '../../../libs/errors/error.js';
import type { TensorValue, TypedData } from '../../../libs/runtime/tensor.js';
import type { ElementType } from '../../../libs/onnx/ir.js';

/** A tensor of a request. Elements of BYTES stay bytes: they may be files. */
export interface WireTensor {
  readonly name: string;
  /** As the Open Inference Protocol calls it. */
  readonly datatype: string;
  readonly dims: readonly number[];
  readonly data: Exclude<TypedData, string[]> | readonly Uint8Array[];
}

/** By the protocol's names; FP16, BF16 and unsigned types wider than a byte are not served. */
export const elementTypes: Readonly<Record<string, ElementType>> = {
  FP32: 'float32',
  FP64: 'float64',
  INT64: 'int64',
  INT32: 'int32',
  INT8: 'int8',
  UINT8: 'uint8',
  BOOL: 'bool',
  BYTES: 'string',
};

/** A request's tensor as the runtime takes it. Throws INVALID_ARGUMENT on BYTES that are not UTF-8. */
export function toTensorValue({ name, datatype, dims, data }: WireTensor): TensorValue {
  if (datatype !== 'BYTES') return { type: elementTypes[datatype]!, dims, data: data as Exclude<TypedData, string[]> };
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  try {
    return { type: 'string', dims, data: (data as readonly Uint8Array[]).map((element) => decoder.decode(element)) };
  } catch (cause) {
    throw invalid(`input ${name}: BYTES that are not UTF-8 text`, cause);
  }
}
