import { invalid } from '../errors/error.js';
import type { ElementType } from '../onnx/ir.js';

/** What a tensor's elements may be held in; `bool` is a Uint8Array of zeros and ones. */
export type TypedData = Float32Array | Float64Array | BigInt64Array | Int32Array | Int8Array | Uint8Array | string[];

export type NumericData = Exclude<TypedData, string[]>;
/** The types that have a container of numbers. */
export type NumericType = Exclude<ElementType, 'string' | 'float16' | 'bfloat16'>;

/** A dense tensor, row major. The length of `data` is the product of `dims`. */
export interface TensorValue {
  readonly type: ElementType;
  readonly dims: readonly number[];
  readonly data: TypedData;
}

/** An input or output of a session; a dimension is a number or the name of a symbol ('' where the file has none). */
export interface TensorInfo {
  readonly name: string;
  readonly type: ElementType;
  readonly shape: readonly (number | string)[];
}

interface Container {
  readonly name: string;
  holds(data: TypedData): boolean;
  make?(length: number): NumericData;
}

function view<T extends NumericData>(constructor: new (length: number) => T): Container {
  return {
    name: constructor.name,
    holds: (data) => data instanceof constructor,
    make: (length) => new constructor(length),
  };
}

/** What holds the elements of each type; float16 and bfloat16 have no container here. */
const containers: Readonly<Record<ElementType, Container | undefined>> = {
  float32: view(Float32Array),
  float64: view(Float64Array),
  int64: view(BigInt64Array),
  int32: view(Int32Array),
  int8: view(Int8Array),
  uint8: view(Uint8Array),
  bool: view(Uint8Array),
  string: { name: 'string[]', holds: (data) => Array.isArray(data) },
  float16: undefined,
  bfloat16: undefined,
};

/** Whether tensors of this type can be exchanged with a session. */
export function isElementType(type: string): type is ElementType {
  return containers[type as ElementType] !== undefined;
}

/** A container of zeros. */
export function newData(type: NumericType, length: number): NumericData {
  return containers[type]!.make!(length);
}

/** The number of elements of a shape. */
export function elementCount(dims: readonly number[]): number {
  return dims.reduce((product, dim) => product * dim, 1);
}

/**
 * Throws INVALID_ARGUMENT, naming the tensor, unless type, dims and data agree with each other and with `info`.
 * `symbols` holds what the symbolic dimensions stood for in the inputs before: the batch is the same in all of them.
 */
export function checkTensor(info: TensorInfo, value: TensorValue, symbols: Map<string, number>): void {
  const { name, type } = info;
  const { dims, data } = value;
  checkShape(info, value, symbols);
  const container = containers[type];
  if (!container?.holds(data)) throw invalid(`input ${name} of type ${type} needs its data in a ${container?.name}`);
  const count = elementCount(dims);
  if (data.length !== count) throw invalid(`input ${name} has ${data.length} elements, expected ${count}`);
}

/** As `checkTensor`, of a tensor whose data is elsewhere. */
export function checkShape(
  info: TensorInfo,
  value: Pick<TensorValue, 'type' | 'dims'>,
  symbols: Map<string, number>,
): void {
  const { name, type, shape } = info;
  const { dims } = value;
  if (value.type !== type) throw invalid(`input ${name} has type ${value.type}, expected ${type}`);
  const wrongShape = () =>
    invalid(`input ${name} has shape [${dims.join(', ')}], expected [${describe(shape, symbols)}]`);
  if (dims.length !== shape.length) throw wrongShape();
  for (const [axis, dim] of dims.entries()) {
    const symbol = shape[axis];
    const expected = typeof symbol === 'string' ? (symbols.get(symbol) ?? dim) : symbol;
    if (!Number.isInteger(dim) || dim < 0 || dim !== expected) throw wrongShape();
    if (typeof symbol === 'string' && symbol !== '') symbols.set(symbol, dim);
  }
}

function describe(shape: TensorInfo['shape'], symbols: ReadonlyMap<string, number>): string {
  return shape
    .map((dim) => {
      const bound = typeof dim === 'string' ? symbols.get(dim) : undefined;
      return bound === undefined ? dim || '?' : `${dim}=${bound}`;
    })
    .join(', ');
}

/**
 * Readies tensors to be posted to another thread: the typed array that crosses is the only view of its buffer, and the
 * buffer is on the transfer list. With `move` the caller's buffers are given away where that can be done (a whole
 * ArrayBuffer that nothing else views); else they are copied once, which costs less than a structured clone's two copies.
 */
export function packTensors(
  tensors: Readonly<Record<string, TensorValue>>,
  move: boolean,
): { packed: Record<string, TensorValue>; transfer: ArrayBuffer[] } {
  const transfer = new Set<ArrayBuffer>();
  const packed: Record<string, TensorValue> = {};
  for (const [name, { type, dims, data }] of Object.entries(tensors)) {
    if (Array.isArray(data)) {
      packed[name] = { type, dims, data };
      continue;
    }
    const whole = data.buffer instanceof ArrayBuffer && data.byteLength === data.buffer.byteLength;
    const own = move && whole && !transfer.has(data.buffer) ? data : copyOf(data);
    transfer.add(own.buffer as ArrayBuffer);
    packed[name] = { type, dims, data: own };
  }
  return { packed, transfer: [...transfer] };
}

/** A copy over an ArrayBuffer of its own; Buffer's `slice` would be a view of the same memory. */
function copyOf(data: NumericData): NumericData {
  return data instanceof Uint8Array ? new Uint8Array(data) : data.slice();
}
