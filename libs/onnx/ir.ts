/**
 * The graph as plain data: values with a type and a shape, nodes, initializers. After the ONNX IR specification
 * (https://onnx.ai/onnx/repo-docs/IR.html); a dimension is a number or the name of a symbol (the batch is 'B').
 */

/** Element types of tensors, by the names of the ONNX specification in lower case. */
export type ElementType =
  'float32' | 'float64' | 'float16' | 'bfloat16' | 'int64' | 'int32' | 'int8' | 'uint8' | 'bool' | 'string';

export type Dim = number | string;
export type Shape = readonly Dim[];

/** An edge of the graph. Identity is the object; the name is unique within a graph. */
export interface Value {
  readonly name: string;
  readonly type: ElementType;
  readonly shape: Shape;
  /** Present where it is a sequence of such tensors; ops/sequence.ts says what for. */
  readonly sequence?: true;
}

/** Where a tensor's little-endian bytes are: in memory, or a byte range of a file (an ONNX external tensor). */
export type TensorData =
  | { readonly kind: 'inline'; readonly bytes: Uint8Array }
  | { readonly kind: 'external'; readonly file: string; readonly offset: number; readonly length: number };

export interface Tensor {
  readonly type: ElementType;
  readonly dims: readonly number[];
  readonly data: TensorData;
}

export type Attribute =
  | { readonly kind: 'int'; readonly value: number }
  | { readonly kind: 'ints'; readonly value: readonly number[] }
  | { readonly kind: 'float'; readonly value: number }
  | { readonly kind: 'floats'; readonly value: readonly number[] }
  | { readonly kind: 'string'; readonly value: string }
  | { readonly kind: 'tensor'; readonly value: Tensor };

export type Domain = '' | 'com.microsoft';

export interface Node {
  readonly op: string;
  readonly domain: Domain;
  readonly name: string;
  /** An optional input that is left out is undefined. */
  readonly inputs: readonly (Value | undefined)[];
  readonly outputs: readonly Value[];
  readonly attributes: Readonly<Record<string, Attribute>>;
}

export interface Initializer {
  readonly value: Value;
  readonly tensor: Tensor;
}

export interface Graph {
  readonly name: string;
  readonly inputs: readonly Value[];
  readonly outputs: readonly Value[];
  readonly initializers: readonly Initializer[];
  /** In topological order. */
  readonly nodes: readonly Node[];
}

/** Bytes of one element; strings have none. */
export const elementSize: Readonly<Record<Exclude<ElementType, 'string'>, number>> = {
  float32: 4,
  float64: 8,
  float16: 2,
  bfloat16: 2,
  int64: 8,
  int32: 4,
  int8: 1,
  uint8: 1,
  bool: 1,
};
