/** Graphs that are protobufs, and no models any more, or others. */
import {
  AttributeProto_AttributeType as AttributeType,
  type GraphProto,
  type NodeProto,
  TensorProto_DataLocation as DataLocation,
} from '../../../../libs/onnx/gen/onnx.js';
import { type Draw, flipped, spliced, truncated } from '../random.js';
import { type Mutation, ofGraph } from './mutation.js';

const dims = [0n, -1n, 1n, 7n, 1n << 20n, 1n << 31n, 1n << 40n, (1n << 63n) - 1n, -(1n << 63n)] as const;
const operators = [
  'Loop', 'If', 'Scan', 'Nothing', '', 'Add', 'MatMul', 'Gather', 'ScatterElements', 'Reshape', 'Slice', 'Expand', 'Tile', 'Concat',
  'Conv', 'ConstantOfShape', 'Range', 'OneHot', 'NonZero', 'TopK', 'Resize', 'Einsum', 'LSTM', 'QLinearMatMul', 'SequenceAt',
  'MultiHeadAttention', 'GroupQueryAttention', 'MatMulNBits', 'SkipLayerNormalization', 'RotaryEmbedding', 'Gelu', 'Transpose', 'Pad',
] as const; // prettier-ignore
const paths = ['../../net/1/model.onnx', '/etc/passwd', '..', '', '.', 'absent.data', 'linked.data', 'model.onnx', '/dev/zero', 'a\0b', 'x'.repeat(5000)] as const; // prettier-ignore
const numbersOf = [
  '-1',
  '0',
  '1',
  '9223372036854775807',
  '-9223372036854775808',
  '18446744073709551616',
  'x',
  '',
  '4096',
] as const;

function node(graph: GraphProto, draw: Draw): NodeProto {
  return draw.pick(graph.node);
}

function named(graph: GraphProto, draw: Draw): string | undefined {
  return draw.pick([...graph.initializer.map(({ name }) => name), ...graph.node.flatMap(({ output }) => output), '']);
}

export const structural: readonly Mutation[] = [
  ofGraph('dims of a tensor', (graph, draw) => {
    const tensor = draw.pick(graph.initializer);
    if (tensor.dims.length > 0 && draw.chance(0.7))
      tensor.dims[draw.integer(0, tensor.dims.length - 1)] = draw.pick(dims);
    else tensor.dims = Array.from({ length: draw.integer(0, 6) }, () => draw.pick(dims));
  }),
  ofGraph('type of a tensor', (graph, draw) => {
    draw.pick(graph.initializer).dataType = draw.integer(-1, 30);
  }),
  ofGraph('bytes of a tensor', (graph, draw) => {
    const tensor = draw.pick(graph.initializer);
    tensor.rawData = Buffer.from(draw.pick([truncated, flipped, spliced])(draw, tensor.rawData ?? new Uint8Array(16)));
  }),
  ofGraph('external data', (graph, draw) => {
    const tensor = draw.pick(graph.initializer);
    tensor.rawData = Buffer.alloc(0);
    tensor.dataLocation = DataLocation.EXTERNAL;
    tensor.externalData = [
      { key: 'location', value: draw.pick(paths) },
      { key: 'offset', value: draw.pick(numbersOf) },
      { key: 'length', value: draw.pick(numbersOf) },
    ].filter(() => draw.chance(0.85));
  }),
  ofGraph('offsets of external data', (graph, draw) => {
    const external = graph.initializer.filter(({ externalData }) => externalData.length > 0);
    const tensor = draw.pick(external.length > 0 ? external : graph.initializer);
    for (const entry of tensor.externalData)
      if (entry.key !== 'location' && draw.chance(0.6)) entry.value = draw.pick(numbersOf);
  }),
  ofGraph('a cycle', (graph, draw) => {
    const [a, b] = [node(graph, draw), node(graph, draw)];
    if (a.input.length > 0) a.input[draw.integer(0, a.input.length - 1)] = b.output[0] ?? '';
    if (b.input.length > 0) b.input[draw.integer(0, b.input.length - 1)] = a.output[0] ?? '';
  }),
  ofGraph('an input of another name', (graph, draw) => {
    const { input } = node(graph, draw);
    if (input.length > 0)
      input[draw.integer(0, input.length - 1)] = draw.pick([named(graph, draw) ?? '', 'nowhere', '']);
  }),
  ofGraph('inputs swapped', (graph, draw) => {
    node(graph, draw).input.reverse();
  }),
  ofGraph('outputs of one name', (graph, draw) => {
    const [a, b] = [node(graph, draw), node(graph, draw)];
    a.output = [...b.output];
  }),
  ofGraph('another operator', (graph, draw) => {
    const changed = node(graph, draw);
    changed.opType = draw.pick(operators);
    if (draw.chance(0.3)) changed.domain = draw.pick(['', 'com.microsoft', 'ai.onnx.ml', 'nowhere']);
  }),
  ofGraph('operators swapped', (graph, draw) => {
    const [a, b] = [node(graph, draw), node(graph, draw)];
    [a.opType, b.opType] = [b.opType, a.opType];
    [a.domain, b.domain] = [b.domain, a.domain];
  }),
  ofGraph('attributes', (graph, draw) => {
    const withSome = graph.node.filter(({ attribute }) => attribute.length > 0);
    if (withSome.length === 0) return;
    const attribute = draw.pick(draw.pick(withSome).attribute);
    if (draw.chance(0.3)) attribute.type = draw.integer(0, 14);
    else if (attribute.type === AttributeType.INT) attribute.i = draw.pick(dims);
    else if (attribute.type === AttributeType.INTS) attribute.ints = attribute.ints.map(() => draw.pick(dims));
    else if (attribute.type === AttributeType.FLOAT) attribute.f = draw.pick([NaN, Infinity, -1, 0]);
    else attribute.name = draw.pick(['axis', 'num_heads', 'to', '']);
  }),
  ofGraph('attributes left out', (graph, draw) => {
    node(graph, draw).attribute = [];
  }),
  ofGraph('a node left out', (graph, draw) => void graph.node.splice(draw.integer(0, graph.node.length - 1), 1)),
  ofGraph('a node doubled', (graph, draw) => void graph.node.push(node(graph, draw))),
  ofGraph('nodes reversed', (graph) => void graph.node.reverse()),
  ofGraph('constants of shapes', (graph, draw) => {
    const whole = graph.initializer.filter(({ dataType, rawData }) => dataType === 7 && (rawData?.length ?? 0) >= 8);
    if (whole.length === 0) return;
    const tensor = draw.pick(whole);
    const bytes = Buffer.from(tensor.rawData!);
    bytes.writeBigInt64LE(draw.pick(dims), 8 * draw.integer(0, bytes.length / 8 - 1));
    tensor.rawData = bytes;
  }),
  ofGraph('dims of an input', (graph, draw) => {
    const shape = draw.pick([...graph.input, ...graph.output]).type?.tensorType?.shape;
    if (!shape) return;
    const at = draw.integer(0, Math.max(0, shape.dim.length - 1));
    const dim = shape.dim[at];
    if (dim) shape.dim[at] = { ...dim, dimParam: undefined, dimValue: draw.pick(dims) };
  }),
  ofGraph('type of an input', (graph, draw) => {
    const tensor = draw.pick([...graph.input, ...graph.output]).type?.tensorType;
    if (tensor) tensor.elemType = draw.integer(0, 30);
  }),
  ofGraph('name of an input', (graph, draw) => {
    draw.pick([...graph.input, ...graph.output]).name = draw.pick([
      '',
      '__proto__',
      'budget',
      'image',
      'x'.repeat(10_000),
      '\0',
    ]);
  }),
  ofGraph('an input left out', (graph, draw) => void graph.input.splice(draw.integer(0, graph.input.length - 1), 1)),
  ofGraph('no outputs', (graph) => void graph.output.splice(0)),
  ofGraph('no nodes', (graph) => void graph.node.splice(0)),
  ofGraph('operator sets', (_, draw, model) => {
    for (const set of model.opsetImport) if (draw.chance(0.7)) set.version = draw.pick(dims);
    if (draw.chance(0.2)) model.opsetImport = [];
  }),
  ofGraph('version of the format', (_, draw, model) => {
    model.irVersion = draw.pick(dims);
  }),
  ofGraph('no graph', (_, __, model) => {
    model.graph = undefined;
  }),
  ofGraph('graphs in graphs', (graph, draw) => {
    const target = node(graph, draw);
    const attribute = target.attribute[0];
    if (attribute)
      Object.assign(attribute, {
        type: AttributeType.GRAPH,
        g: { ...graph, node: graph.node.filter((each) => each !== target) },
        name: draw.pick(['body', 'then_branch']),
      });
    target.opType = draw.pick(['Loop', 'If', 'Scan']);
  }),
];
