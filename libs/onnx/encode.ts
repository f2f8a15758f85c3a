import { basename } from 'node:path';
import { internal } from '../errors/error.js';
import { dataTypeOf } from './data-types.js';
import {
  AttributeProto,
  AttributeProto_AttributeType as AttributeType,
  GraphProto,
  ModelProto,
  NodeProto,
  TensorProto,
  TensorProto_DataLocation as DataLocation,
  ValueInfoProto,
} from './gen/onnx.js';
import { elementSize, type Attribute, type Graph, type Node, type Tensor, type Value } from './ir.js';
import { decodeStrings } from './strings.js';

/** The version of the file format and of the operator sets that this project writes, and the only sets that it reads. */
export const irVersion = 10;
export const operatorSets = { '': 21, 'com.microsoft': 1 } as const;

/** Where a tensor's bytes lie outside the protobuf: a file beside the model, by its base name. */
export interface ExternalLocation {
  readonly location: string;
  readonly offset: number;
  readonly length: number;
}

/** Decides for a tensor whether its bytes lie outside; undefined keeps them in the protobuf. */
export type Placement = (tensor: Tensor) => ExternalLocation | undefined;

/** Every tensor of a graph: the initializers, then those in the attributes of nodes. */
export function* tensorsOf(graph: Graph): Generator<Tensor> {
  for (const { tensor } of graph.initializers) yield tensor;
  for (const node of graph.nodes) {
    for (const attribute of Object.values(node.attributes)) if (attribute.kind === 'tensor') yield attribute.value;
  }
}

/**
 * The protobuf of a graph as the bytes of an ONNX file. Inline tensors are inside; external ones are referenced by the base
 * name of their file, which has to lie beside the model (or to be handed to the runtime with it).
 *
 * Throws INTERNAL where the graph is not well formed: a name that stands for two values, a node that reads what nothing before
 * it wrote, a tensor whose bytes do not fill its shape. Those are defects of the pass that built it.
 */
export function encodeModel(graph: Graph, place: Placement = besideTheModel): Uint8Array {
  checkWellFormed(graph);
  const outside = new Set([...graph.inputs, ...graph.outputs].map((value) => value.name));
  const inner = graph.nodes.flatMap((node) => node.outputs.filter(({ name }) => name !== '' && !outside.has(name)));
  const model: ModelProto = {
    ...ModelProto.create(),
    irVersion: BigInt(irVersion),
    producerName: 'heartwood',
    opsetImport: Object.entries(operatorSets).map(([domain, version]) => ({ domain, version: BigInt(version) })),
    graph: {
      ...GraphProto.create(),
      name: graph.name,
      node: graph.nodes.map((node) => nodeProto(node, place)),
      initializer: graph.initializers.map(({ value, tensor }) => tensorProto(tensor, value.name, place)),
      input: graph.inputs.map(valueInfo),
      output: graph.outputs.map(valueInfo),
      valueInfo: inner.map(valueInfo),
    },
  };
  return ModelProto.encode(model).finish();
}

function besideTheModel(tensor: Tensor): ExternalLocation | undefined {
  if (tensor.data.kind === 'inline') return undefined;
  return { location: basename(tensor.data.file), offset: tensor.data.offset, length: tensor.data.length };
}

function valueInfo(value: Value): ValueInfoProto {
  const dim = value.shape.map((size) =>
    typeof size === 'number'
      ? { dimValue: BigInt(size), dimParam: undefined }
      : { dimParam: size, dimValue: undefined },
  );
  const tensor = { tensorType: { elemType: dataTypeOf[value.type], shape: { dim } } };
  const type = value.sequence ? { sequenceType: { elemType: tensor } } : tensor;
  return { ...ValueInfoProto.create(), name: value.name, type };
}

function nodeProto(node: Node, place: Placement): NodeProto {
  return {
    ...NodeProto.create(),
    name: node.name,
    opType: node.op,
    domain: node.domain,
    input: node.inputs.map((value) => value?.name ?? ''),
    output: node.outputs.map((value) => value.name),
    attribute: Object.entries(node.attributes).map(([name, attribute]) => attributeProto(name, attribute, node, place)),
  };
}

function attributeProto(name: string, attribute: Attribute, node: Node, place: Placement): AttributeProto {
  const base = { ...AttributeProto.create(), name };
  switch (attribute.kind) {
    case 'int':
      return { ...base, type: AttributeType.INT, i: integer(attribute.value, name, node) };
    case 'ints':
      return { ...base, type: AttributeType.INTS, ints: attribute.value.map((value) => integer(value, name, node)) };
    case 'float':
      return { ...base, type: AttributeType.FLOAT, f: attribute.value };
    case 'floats':
      return { ...base, type: AttributeType.FLOATS, floats: [...attribute.value] };
    case 'string':
      return { ...base, type: AttributeType.STRING, s: Buffer.from(attribute.value, 'utf8') };
    case 'tensor':
      return { ...base, type: AttributeType.TENSOR, t: tensorProto(attribute.value, '', place) };
  }
}

function integer(value: number, name: string, node: Node): bigint {
  if (!Number.isSafeInteger(value)) {
    throw internal(`attribute ${name} of node ${node.name} (${node.op}) is ${value}, expected an integer`);
  }
  return BigInt(value);
}

function tensorProto(tensor: Tensor, name: string, place: Placement): TensorProto {
  const proto: TensorProto = {
    ...TensorProto.create(),
    name,
    dataType: dataTypeOf[tensor.type],
    dims: tensor.dims.map(BigInt),
  };
  const external = place(tensor);
  if (external !== undefined) {
    proto.dataLocation = DataLocation.EXTERNAL;
    proto.externalData = Object.entries(external).map(([key, value]) => ({ key, value: String(value) }));
  } else if (tensor.data.kind === 'external') {
    throw internal(`tensor ${name} lies in ${tensor.data.file}, and no place beside the model was given for it`);
  } else if (tensor.type === 'string') {
    proto.stringData = decodeStrings(tensor.data.bytes).map((text) => Buffer.from(text, 'utf8'));
  } else {
    proto.rawData = tensor.data.bytes;
  }
  return proto;
}

function checkWellFormed(graph: Graph): void {
  const known = new Set<string>();
  const define = (value: Value) => {
    if (known.has(value.name)) throw internal(`graph ${graph.name}: two values are called ${value.name}`);
    known.add(value.name);
  };
  for (const value of graph.inputs) define(value);
  for (const { value, tensor } of graph.initializers) {
    define(value);
    checkTensor(tensor, value.name);
  }
  for (const node of graph.nodes) {
    for (const input of node.inputs) {
      if (input !== undefined && !known.has(input.name)) {
        throw internal(`node ${node.name} (${node.op}) reads ${input.name}, which nothing before it writes`);
      }
    }
    for (const [name, attribute] of Object.entries(node.attributes)) {
      if (attribute.kind === 'tensor') checkTensor(attribute.value, `${node.name}.${name}`);
    }
    // An output that is left out has the empty name.
    for (const output of node.outputs) if (output.name !== '') define(output);
  }
  for (const output of graph.outputs) {
    if (!known.has(output.name)) throw internal(`graph ${graph.name}: nothing writes the output ${output.name}`);
  }
}

function checkTensor(tensor: Tensor, name: string): void {
  const count = tensor.dims.reduce((product, dim) => product * dim, 1);
  if (tensor.type === 'string') {
    if (tensor.data.kind === 'external') throw internal(`tensor ${name}: strings cannot lie in an external file`);
    const strings = decodeStrings(tensor.data.bytes).length;
    if (strings !== count) throw internal(`tensor ${name} has ${strings} strings, its shape wants ${count}`);
    return;
  }
  const length = tensor.data.kind === 'inline' ? tensor.data.bytes.byteLength : tensor.data.length;
  const expected = count * elementSize[tensor.type];
  if (length !== expected) {
    throw internal(
      `tensor ${name} has ${length} bytes, its shape [${tensor.dims.join(', ')}] of ${tensor.type} wants ${expected}`,
    );
  }
}
