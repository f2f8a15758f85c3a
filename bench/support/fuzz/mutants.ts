/** Model folders that were tampered with. */
import { createHash } from 'node:crypto';
import { readdir, readFile, rename, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  AttributeProto,
  AttributeProto_AttributeType as AttributeType,
  GraphProto,
  ModelProto,
  NodeProto,
  TensorProto,
  TensorProto_DataLocation as DataLocation,
  TensorShapeProto_Dimension,
  TypeProto,
  ValueInfoProto,
} from '../../../libs/onnx/gen/onnx.js';
import { type Draw, flipped, spliced, truncated } from './random.js';

const modelFile = 'model.onnx';
const manifestFile = 'heartwood.json';

/** Does something to a version's folder. */
export interface Mutation {
  readonly name: string;
  readonly mutate: (directory: string, draw: Draw) => Promise<void>;
}

type Bytes = (draw: Draw, bytes: Uint8Array) => Uint8Array;

async function rewrite(file: string, change: (bytes: Uint8Array) => Uint8Array | string): Promise<void> {
  const changed = change(await readFile(file));
  // Files of a version may be hard links, which a write in place would change in both places.
  await rm(file);
  await writeFile(file, changed);
}

function ofBytes(
  name: string,
  pick: (files: readonly string[], draw: Draw) => string | undefined,
  change: Bytes,
): Mutation {
  return {
    name,
    async mutate(directory, draw) {
      const files = (await readdir(directory)).sort();
      const file = pick(files, draw) ?? modelFile;
      await rewrite(join(directory, file), (bytes) => change(draw, bytes));
    },
  };
}

const theModel = (): string => modelFile;
const data = (files: readonly string[], draw: Draw): string | undefined => {
  const others = files.filter((file) => file !== modelFile && file !== manifestFile);
  return others.length > 0 ? draw.pick(others) : undefined;
};

/** A change of the protobuf that leaves it one. */
function ofGraph(name: string, change: (graph: GraphProto, draw: Draw, model: ModelProto) => void): Mutation {
  return {
    name: `graph: ${name}`,
    mutate: (directory, draw) =>
      rewrite(join(directory, modelFile), (bytes) => {
        const model = ModelProto.decode(bytes);
        change(model.graph!, draw, model);
        return ModelProto.encode(model).finish();
      }),
  };
}

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

const structural: readonly Mutation[] = [
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

/** What loads, and would take for ever or all the memory. */
const endless: readonly Mutation[] = [
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

export const modelMutations: readonly Mutation[] = [
  ofBytes('model: flipped', theModel, flipped),
  ofBytes('model: truncated', theModel, truncated),
  ofBytes('model: spliced', theModel, spliced),
  ofBytes('model: random bytes', theModel, (draw) => draw.bytes(draw.integer(0, 3000))),
  ofBytes('model: nested groups', theModel, (draw) =>
    Buffer.alloc(draw.integer(1, 100_000), draw.pick([0x0b, 0x3a, 0x7b])),
  ),
  ofBytes('data: flipped', data, flipped),
  ofBytes('data: truncated', data, truncated),
  {
    name: 'data: a symbolic link',
    async mutate(directory) {
      const file = data((await readdir(directory)).sort(), neverDrawn) ?? modelFile;
      await rename(join(directory, file), `${directory}.elsewhere`);
      await symlink(`${directory}.elsewhere`, join(directory, file));
    },
  },
  ...structural,
  ...structural,
  ...endless,
];

const neverDrawn: Draw = {
  integer: (from) => from,
  chance: () => false,
  pick: (choices) => choices[0]!,
  bytes: (length) => new Uint8Array(length),
};

const values = [null, -1, 0, 1e308, '', 'x', [], {}, true, 1.5, 9007199254740992, 2 ** 40, 'x'.repeat(100_000), [[]], ['__proto__']] as const; // prettier-ignore

/** Puts another value in the place of one somewhere in a JSON value. */
function other(value: unknown, draw: Draw, depth = 0): unknown {
  if (typeof value !== 'object' || value === null || (depth > 0 && draw.chance(0.3))) return draw.pick(values);
  const keys = Object.keys(value);
  if (keys.length === 0) return draw.pick(values);
  const key = draw.pick(keys);
  const changed = other((value as Record<string, unknown>)[key], draw, depth + 1);
  if (Array.isArray(value)) return value.map((each: unknown, at) => (String(at) === key ? changed : each));
  const copy = { ...(value as Record<string, unknown>) };
  if (draw.chance(0.2)) delete copy[key];
  else copy[key] = changed;
  return copy;
}

const manifest = (_: readonly string[]): string => manifestFile;

export const manifestMutations: readonly Mutation[] = [
  ofBytes('manifest: flipped', manifest, flipped),
  ofBytes('manifest: truncated', manifest, truncated),
  ofBytes('manifest: spliced', manifest, spliced),
  ...Array.from({ length: 5 }, () =>
    ofBytes('manifest: other values', manifest, (draw, bytes) =>
      Buffer.from(JSON.stringify(other(JSON.parse(Buffer.from(bytes).toString()), draw))),
    ),
  ),
  ofBytes('manifest: deep nesting', manifest, (draw) =>
    Buffer.from(draw.pick(['[', '{"a":']).repeat(draw.integer(1, 100_000))),
  ),
  ofBytes(
    'config.pbtxt',
    () => `../config.pbtxt`,
    (draw) => draw.bytes(draw.integer(0, 3000)),
  ),
  ofBytes(
    'pinned.json',
    () => `../pinned.json`,
    (draw) => Buffer.from(draw.pick(['{', '{"version":1e99}', '{"version":"1"}', '[]', ''])),
  ),
  {
    name: 'folder: a file more',
    mutate: (directory, draw) => writeFile(join(directory, draw.pick(['extra', '.hidden', 'model.onnx.bak'])), 'x'),
  },
  { name: 'folder: no model', mutate: (directory) => rm(join(directory, modelFile)) },
  { name: 'folder: an empty model', mutate: (directory) => truncateCopy(join(directory, modelFile)) },
];

async function truncateCopy(file: string): Promise<void> {
  await rewrite(file, (bytes) => bytes);
  await truncate(file, 0);
}

/** Makes the manifest tell the digests of the files as they are now. */
export async function resign(directory: string): Promise<void> {
  const file = join(directory, manifestFile);
  const content = JSON.parse(await readFile(file, 'utf8')) as { files: Record<string, string> };
  for (const name of Object.keys(content.files)) {
    const bytes = await readFile(join(directory, name)).catch(() => undefined);
    if (bytes) content.files[name] = createHash('sha256').update(bytes).digest('hex');
  }
  await rm(file);
  await writeFile(file, JSON.stringify(content));
}
