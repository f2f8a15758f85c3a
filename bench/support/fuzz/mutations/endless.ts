/** Graphs that load, and would take for ever or all the memory. */
import {
  AttributeProto,
  AttributeProto_AttributeType as AttributeType,
  GraphProto,
  NodeProto,
  TensorProto,
  TensorShapeProto_Dimension,
  TypeProto,
  ValueInfoProto,
} from '../../../../libs/onnx/gen/onnx.js';
import { type Mutation, ofGraph } from './mutation.js';

const value = (name: string, elemType: number, dim: TensorShapeProto_Dimension[]): ValueInfoProto => ({
  ...ValueInfoProto.create(),
  name,
  type: { ...TypeProto.create(), tensorType: { elemType, shape: { dim } } },
});
const sized = (dimValue: bigint): TensorShapeProto_Dimension => ({ ...TensorShapeProto_Dimension.create(), dimValue });
const symbol = (dimParam: string): TensorShapeProto_Dimension => ({ ...TensorShapeProto_Dimension.create(), dimParam });
const operation = (opType: string, input: string[], output: string[]): NodeProto => ({
  ...NodeProto.create(),
  opType,
  input,
  output,
});

/** Puts nodes between what an output was and the output. */
function behind(graph: GraphProto, make: (from: string, to: string) => NodeProto[]): void {
  const to = graph.output[0]?.name ?? '';
  for (const each of graph.node) each.output = each.output.map((name) => (name === to ? 'before' : name));
  graph.node.push(...make('before', to));
}

export const endless: readonly Mutation[] = [
  ofGraph('an input without end', (graph, draw) => {
    const size = draw.pick([1n << 28n, 1n << 30n, 1n << 40n, (1n << 62n) - 1n]);
    graph.input.push(value('x', draw.pick([1, 7, 8, 9, 11]), [symbol('B'), sized(size)]));
  }),
  ofGraph('a constant without end', (graph, draw) => {
    const size = draw.pick([1n << 28n, 1n << 36n, 1n << 50n]);
    const rawData = Buffer.from(new BigInt64Array([size]).buffer);
    graph.initializer.push({ ...TensorProto.create(), name: 'size', dims: [1n], dataType: 7, rawData });
    behind(graph, (from, to) => [
      operation('ConstantOfShape', ['size'], ['huge']),
      operation('ReduceMax', ['huge'], ['most']),
      operation('Squeeze', ['most'], ['scalar']),
      operation('Add', [from, 'scalar'], [to]),
    ]);
  }),
  ofGraph('a loop without end', (graph) => {
    const trips = Buffer.from(new BigInt64Array([1n << 62n]).buffer);
    graph.initializer.push({ ...TensorProto.create(), name: 'trips', dataType: 7, rawData: trips });
    graph.initializer.push({ ...TensorProto.create(), name: 'on', dataType: 9, rawData: Buffer.from([1]) });
    const rows = [symbol('B'), symbol('C')];
    const body = {
      ...GraphProto.create(),
      name: 'body',
      input: [value('turn', 7, []), value('go', 9, []), value('x', 1, rows)],
      output: [value('go_on', 9, []), value('y', 1, rows)],
      node: [operation('Identity', ['go'], ['go_on']), operation('Add', ['x', 'x'], ['y'])],
    };
    const attribute = { ...AttributeProto.create(), name: 'body', type: AttributeType.GRAPH, g: body };
    behind(graph, (from, to) => [{ ...operation('Loop', ['trips', 'on', from], [to]), attribute: [attribute] }]);
  }),
];
