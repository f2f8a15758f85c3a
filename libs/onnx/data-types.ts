import { TensorProto_DataType as DataType } from './gen/onnx.js';
import type { ElementType } from './ir.js';

/** The numbers of the ONNX specification (TensorProto.DataType) for the element types of this project. */
export const dataTypeOf: Readonly<Record<ElementType, DataType>> = {
  float32: DataType.FLOAT,
  float64: DataType.DOUBLE,
  float16: DataType.FLOAT16,
  bfloat16: DataType.BFLOAT16,
  int64: DataType.INT64,
  int32: DataType.INT32,
  int8: DataType.INT8,
  uint8: DataType.UINT8,
  bool: DataType.BOOL,
  string: DataType.STRING,
};

const elementTypes = new Map<number, ElementType>(
  (Object.keys(dataTypeOf) as ElementType[]).map((type) => [dataTypeOf[type], type]),
);

/** The element type of a number of the specification; undefined for those that this project has no use for. */
export function elementTypeOf(dataType: number | undefined): ElementType | undefined {
  return dataType === undefined ? undefined : elementTypes.get(dataType);
}
