/** Tensors between the Open Inference Protocol and the runtime. Raw contents are little-endian, as the machines we run on are. */
import type {
  InferTensorContents,
  ModelInferRequest_InferInputTensor,
  ModelInferResponse_InferOutputTensor,
} from '../../../proto/gen/open_inference_grpc.js';
import { invalid } from '../../../libs/errors/error.js';
import type { ElementType } from '../../../libs/onnx/ir.js';
import { elementTypes, type WireTensor } from '../inference/wire-tensor.js';
import { elementCount, type TensorValue, type TypedData } from '../../../libs/runtime/tensor.js';

type Numbers = Exclude<TypedData, string[]>;

interface Codec {
  readonly bytes: number;
  view(buffer: ArrayBufferLike, offset: number, length: number): Numbers;
  typed(contents: InferTensorContents): Numbers;
}

/** FP16, BF16 and unsigned types wider than a byte are not served. */
const codecs: Readonly<Record<string, Codec>> = {
  FP32: codec(Float32Array, (c) => Float32Array.from(c.fp32Contents)),
  FP64: codec(Float64Array, (c) => Float64Array.from(c.fp64Contents)),
  INT64: codec(BigInt64Array, (c) => BigInt64Array.from(c.int64Contents)),
  INT32: codec(Int32Array, (c) => Int32Array.from(c.intContents)),
  INT8: codec(Int8Array, (c) => Int8Array.from(c.intContents)),
  UINT8: codec(Uint8Array, (c) => Uint8Array.from(c.uintContents)),
  BOOL: codec(Uint8Array, (c) => Uint8Array.from(c.boolContents, Number)),
};

function codec(
  array: { new (buffer: ArrayBufferLike, offset: number, length: number): Numbers; BYTES_PER_ELEMENT: number },
  typed: Codec['typed'],
): Codec {
  const bytes = array.BYTES_PER_ELEMENT;
  return { bytes, typed, view: (buffer, offset, length) => new array(buffer, offset, length) };
}

const datatypes = new Map(Object.entries(elementTypes).map(([name, type]) => [type, name]));

/** The protocol's name of an element type. */
export function datatypeOf(type: ElementType): string {
  return datatypes.get(type) ?? type.toUpperCase();
}

/**
 * Reads one input of a request, from its raw contents where there are any, else from its typed ones.
 * Throws INVALID_ARGUMENT naming the input: an unknown datatype, a negative dimension, contents that are not as long as the shape says.
 */
export function decodeInput(input: ModelInferRequest_InferInputTensor, raw: Uint8Array | undefined): WireTensor {
  const { name, datatype } = input;
  const dims = input.shape.map((dim) => {
    if (dim < 0n || dim > 0x7fffffffn)
      throw invalid(`input ${name}: dimension ${dim} in its shape, expected 0 to 2147483647`);
    return Number(dim);
  });
  const count = elementCount(dims);
  const expectCount = (found: number, where: string) => {
    if (found !== count)
      throw invalid(
        `input ${name}: ${found} elements in ${where}, expected ${count} for its shape [${dims.join(', ')}]`,
      );
  };
  if (datatype === 'BYTES') {
    const data = raw ? splitBytes(name, raw, count) : (input.contents?.bytesContents ?? []);
    expectCount(data.length, raw ? 'raw_input_contents' : 'bytes_contents');
    return { name, datatype, dims, data };
  }
  const codec = codecs[datatype];
  if (codec === undefined) {
    throw invalid(
      `input ${name}: datatype ${JSON.stringify(datatype)}, expected one of ${[...Object.keys(codecs), 'BYTES'].join(', ')}`,
    );
  }
  if (!raw) {
    const data = input.contents ? codec.typed(input.contents) : codec.view(new ArrayBuffer(0), 0, 0);
    expectCount(data.length, `the contents of datatype ${datatype}`);
    return { name, datatype, dims, data };
  }
  if (raw.length !== count * codec.bytes) {
    throw invalid(
      `input ${name}: ${raw.length} bytes of raw_input_contents, expected ${count * codec.bytes} for ${datatype} [${dims.join(', ')}]`,
    );
  }
  const aligned = raw.byteOffset % codec.bytes === 0 ? raw : new Uint8Array(raw);
  return { name, datatype, dims, data: codec.view(aligned.buffer, aligned.byteOffset, count) };
}

/** Raw BYTES: each element behind its length as a uint32. */
function splitBytes(name: string, raw: Uint8Array, count: number): Uint8Array[] {
  const elements: Uint8Array[] = [];
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  for (let at = 0; at < raw.length;) {
    const start = at + 4;
    const end = start <= raw.length ? start + view.getUint32(at, true) : Infinity;
    if (end > raw.length || elements.length === count) {
      throw invalid(`input ${name}: raw_input_contents are not ${count} elements, each behind its length as a uint32`);
    }
    elements.push(raw.subarray(start, end));
    at = end;
  }
  return elements;
}

/** An output of the runtime as the protocol answers it: its description, and its raw contents. */
export function encodeOutput(
  name: string,
  { type, dims, data }: TensorValue,
): { tensor: Pick<ModelInferResponse_InferOutputTensor, 'name' | 'datatype' | 'shape'>; raw: Buffer } {
  const tensor = { name, datatype: datatypeOf(type), shape: dims.map(BigInt) };
  if (!Array.isArray(data)) return { tensor, raw: Buffer.from(data.buffer, data.byteOffset, data.byteLength) };
  return { tensor, raw: joinBytes(data.map((element) => Buffer.from(element, 'utf8'))) };
}

/** Raw BYTES of elements; the way back of `splitBytes`. */
export function joinBytes(elements: readonly Uint8Array[]): Buffer {
  return Buffer.concat(
    elements.flatMap((element) => {
      const length = Buffer.alloc(4);
      length.writeUInt32LE(element.length);
      return [length, element];
    }),
  );
}
