import { readFile, stat } from 'node:fs/promises';
import { dirname, isAbsolute, join, resolve } from 'node:path';
import { HeartwoodError, invalid, messageOf } from '../errors/error.js';
import { elementTypeOf } from './data-types.js';
import { operatorSets, tensorsOf } from './encode.js';
import {
  AttributeProto_AttributeType as AttributeType,
  ModelProto,
  TensorProto_DataLocation as DataLocation,
  TensorProto_DataType as DataType,
  type AttributeProto,
  type NodeProto,
  type TensorProto,
  type ValueInfoProto,
} from './gen/onnx.js';
import {
  elementSize,
  type Attribute,
  type Dim,
  type Domain,
  type Graph,
  type Node,
  type Tensor,
  type Value,
} from './ir.js';
import { encodeStrings } from './strings.js';
import { rawBytesOf } from './typed-data.js';

/**
 * Reads an ONNX file. External tensors stay where they are, as byte ranges of files (checked to be inside their files).
 *
 * Reads what this project's IR can say: tensors, the operator sets it writes, no subgraphs, every value with a type and a
 * rank. Anything else, and anything malformed, is INVALID_ARGUMENT with the file and the place in one line.
 */
export async function readModel(path: string): Promise<Graph> {
  let bytes: Uint8Array;
  try {
    bytes = await readFile(path);
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code === 'ENOENT' ? 'NOT_FOUND' : 'INVALID_ARGUMENT';
    throw new HeartwoodError(code, `${path}: cannot be read: ${messageOf(cause)}`, { cause });
  }
  let graph: Graph;
  try {
    graph = graphOf(ModelProto.decode(bytes), dirname(resolve(path)));
  } catch (cause) {
    if (cause instanceof Malformed) throw invalid(`${path}: ${cause.message}`, cause);
    throw invalid(`${path}: not an ONNX model, or cut short: ${messageOf(cause)}`, cause);
  }
  await checkExternalFiles(graph, path);
  return graph;
}

/** What is wrong with a file, without its path, which the caller adds. */
class Malformed extends Error {}

function graphOf(model: ModelProto, directory: string): Graph {
  const proto = model.graph;
  if (model.irVersion === undefined || proto === undefined)
    throw new Malformed('not an ONNX model, or cut short: no graph');
  checkOperatorSets(model);
  if (model.functions.length > 0) throw new Malformed('has model-local functions, expected operators only');
  if (proto.sparseInitializer.length > 0) throw new Malformed('has sparse initializers, expected dense ones only');

  const initializers = proto.initializer.map((tensor) => {
    const name = required(tensor.name, 'an initializer without a name');
    const read = tensorOf(tensor, `initializer ${name}`, directory);
    return { value: { name, type: read.type, shape: read.dims }, tensor: read };
  });
  const values = new Map<string, Value>(initializers.map(({ value }) => [value.name, value]));
  // A default value makes an input a constant, as the runtime's binding has it.
  const inputs = proto.input.filter(({ name }) => !values.has(name ?? '')).map((info) => declare(values, info));
  const known = new Set(values.keys());
  for (const info of [...proto.output, ...proto.valueInfo]) declare(values, info);
  const nodes = proto.node.map((node, index) => nodeOf(node, index, values, known, directory));
  const outputs = proto.output.map(({ name }) => {
    if (!known.has(name ?? '')) throw new Malformed(`output ${name}: no node writes it`);
    return values.get(name ?? '')!;
  });
  return { name: proto.name ?? '', inputs, outputs, initializers, nodes };
}

function checkOperatorSets(model: ModelProto): void {
  if (model.opsetImport.length === 0) throw new Malformed('cut short: no operator sets');
  for (const { domain, version } of model.opsetImport) {
    const expected = operatorSets[domainOf(domain, 'an imported operator set')];
    if (Number(version) !== expected) {
      throw new Malformed(`operator set ${version} of the domain '${domain ?? ''}', expected ${expected}`);
    }
  }
}

function domainOf(domain: string | undefined, what: string): Domain {
  if (domain === undefined || domain === '' || domain === 'ai.onnx') return '';
  if (domain === 'com.microsoft') return domain;
  throw new Malformed(`${what} is of the domain ${domain}, expected ai.onnx or com.microsoft`);
}

function required<T>(value: T | undefined, complaint: string): T {
  if (value === undefined || value === '') throw new Malformed(complaint);
  return value;
}

function declare(values: Map<string, Value>, info: ValueInfoProto): Value {
  const name = required(info.name, 'a value without a name');
  const present = values.get(name);
  if (present !== undefined) return present;
  const element = info.type?.sequenceType?.elemType;
  const tensor = element ? element.tensorType : info.type?.tensorType;
  if (tensor === undefined) throw new Malformed(`value ${name}: not a tensor`);
  const type = elementTypeOf(tensor.elemType);
  if (type === undefined)
    throw new Malformed(`value ${name}: element type ${tensor.elemType ?? 'missing'} is not supported`);
  if (tensor.shape === undefined) throw new Malformed(`value ${name}: no shape, expected every value to have a rank`);
  const shape = tensor.shape.dim.map(({ dimValue, dimParam }, axis): Dim =>
    dimValue !== undefined ? size(dimValue, `value ${name}`) : dimParam ? dimParam : `${name}:${axis}`,
  );
  const value: Value = { name, type, shape, ...(element ? { sequence: true } : {}) };
  values.set(name, value);
  return value;
}

function size(value: bigint, what: string): number {
  if (value < 0n || value > BigInt(Number.MAX_SAFE_INTEGER))
    throw new Malformed(`${what}: dimension ${value} is out of range`);
  return Number(value);
}

function nodeOf(
  proto: NodeProto,
  index: number,
  values: ReadonlyMap<string, Value>,
  known: Set<string>,
  directory: string,
): Node {
  const op = required(proto.opType, `node ${index}: no operator`);
  const name = proto.name ?? '';
  const what = `node ${name || index} (${op})`;
  const inputs = proto.input.map((input) => {
    if (input === '') return undefined;
    if (!known.has(input)) throw new Malformed(`${what}: reads ${input}, which nothing before it writes`);
    return values.get(input);
  });
  const outputs = proto.output.map((output): Value => {
    if (output === '') return { name: '', type: 'float32', shape: [] };
    if (known.has(output)) throw new Malformed(`${what}: writes ${output}, which is written already`);
    known.add(output);
    return required(values.get(output), `${what}: no type and shape for its output ${output}`);
  });
  const attributes = proto.attribute.map((attribute) => {
    const key = required(attribute.name, `${what}: an attribute without a name`);
    return [key, attributeOf(attribute, `${what}, attribute ${key}`, directory)] as const;
  });
  return {
    op,
    domain: domainOf(proto.domain, what),
    name,
    inputs,
    outputs,
    attributes: Object.fromEntries(attributes),
  };
}

function attributeOf(proto: AttributeProto, what: string, directory: string): Attribute {
  const integer = (value: bigint) => {
    if (BigInt.asIntN(54, value) !== value) throw new Malformed(`${what}: ${value} is out of range`);
    return Number(value);
  };
  switch (proto.type) {
    case AttributeType.INT:
      return { kind: 'int', value: integer(proto.i ?? 0n) };
    case AttributeType.INTS:
      return { kind: 'ints', value: proto.ints.map(integer) };
    case AttributeType.FLOAT:
      return { kind: 'float', value: proto.f ?? 0 };
    case AttributeType.FLOATS:
      return { kind: 'floats', value: proto.floats };
    case AttributeType.STRING:
      return { kind: 'string', value: Buffer.from(proto.s ?? []).toString('utf8') };
    case AttributeType.TENSOR:
      return { kind: 'tensor', value: tensorOf(required(proto.t, `${what}: no tensor`), what, directory) };
    default:
      throw new Malformed(`${what}: of kind ${AttributeType[proto.type ?? 0] ?? proto.type}, which is not supported`);
  }
}

function tensorOf(proto: TensorProto, what: string, directory: string): Tensor {
  const type = elementTypeOf(proto.dataType);
  if (type === undefined) {
    throw new Malformed(`${what}: element type ${DataType[proto.dataType ?? 0] ?? proto.dataType} is not supported`);
  }
  const dims = proto.dims.map((dim) => size(dim, what));
  const count = dims.reduce((product, dim) => product * dim, 1);
  if (type === 'string') {
    if (proto.stringData.length !== count) {
      throw new Malformed(`${what}: ${proto.stringData.length} strings, its shape [${dims.join(', ')}] wants ${count}`);
    }
    const strings = proto.stringData.map((text) => Buffer.from(text).toString('utf8'));
    return { type, dims, data: { kind: 'inline', bytes: encodeStrings(strings) } };
  }
  const expected = count * elementSize[type];
  if (!Number.isSafeInteger(expected)) throw new Malformed(`${what}: its shape [${dims.join(', ')}] is out of range`);
  if (proto.dataLocation === DataLocation.EXTERNAL) {
    return { type, dims, data: externalOf(proto, what, directory, expected) };
  }
  const bytes = rawBytesOf(proto, type);
  if (bytes.byteLength !== expected) {
    throw new Malformed(
      `${what}: ${bytes.byteLength} bytes, its shape [${dims.join(', ')}] of ${type} wants ${expected}`,
    );
  }
  return { type, dims, data: { kind: 'inline', bytes } };
}

function externalOf(proto: TensorProto, what: string, directory: string, expected: number) {
  const entries = new Map(proto.externalData.map(({ key, value }) => [key, value]));
  const location = required(entries.get('location'), `${what}: external data without a location`);
  if (isAbsolute(location) || location.split(/[\\/]/).includes('..')) {
    throw new Malformed(`${what}: external data in ${location}, expected a file beside the model`);
  }
  const offset = Number(entries.get('offset') ?? 0);
  const length = Number(entries.get('length') ?? expected);
  if (!Number.isSafeInteger(offset) || offset < 0 || length !== expected) {
    throw new Malformed(
      `${what}: external data of ${entries.get('length')} bytes at ${entries.get('offset')}, its shape wants ${expected}`,
    );
  }
  return { kind: 'external', file: join(directory, location), offset, length } as const;
}

async function checkExternalFiles(graph: Graph, path: string): Promise<void> {
  const ends = new Map<string, number>();
  for (const { data } of tensorsOf(graph)) {
    if (data.kind === 'external') ends.set(data.file, Math.max(ends.get(data.file) ?? 0, data.offset + data.length));
  }
  for (const [file, end] of ends) {
    const found = await stat(file).catch(() => undefined);
    if (!found?.isFile()) throw invalid(`${path}: external data file ${file} is missing`);
    if (found.size < end)
      throw invalid(`${path}: external data file ${file} has ${found.size} bytes, expected at least ${end}`);
  }
}
