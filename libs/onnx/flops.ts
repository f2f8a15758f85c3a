import { internal } from '../errors/error.js';
import type { Dim, Graph, Node, Shape, Value } from './ir.js';
import { describe } from './shapes.js';

/** What a graph computes, in floating point operations; a multiply-add counts as two. */
export interface FlopCount {
  readonly total: number;
  /** By operator, those that compute something. */
  readonly byOp: Readonly<Record<string, number>>;
}

/** What symbolic dimensions stand for. A product of symbols and numbers ('B·197') follows from its factors. */
export type SymbolValues = Readonly<Record<string, number>>;

/** How many elements a value has. */
type Size = (value: Value | undefined) => number;
type Cost = (node: Node, size: Size) => number;

const output: Cost = (node, size) => size(node.outputs[0]);
const perOutput =
  (flops: number): Cost =>
  (node, size) =>
    flops * size(node.outputs[0]);
const perInput: Cost = (node, size) => size(node.inputs[0]);
const none: Cost = () => 0;

/** [.., M, K] × [.., K, N]: K multiply-adds for each element of the result. */
const matMul: Cost = (node, size) => 2 * size(node.outputs[0]) * lastDims(node.inputs[0], size, 1);

/** op(A) op(B) + C. */
const gemm: Cost = (node, size) => {
  const inner = axisSize(node.inputs[0], flag(node, 'transA') ? 0 : 1, size);
  return size(node.outputs[0]) * (2 * inner + (node.inputs[2] ? 1 : 0));
};

/** x [.., K] times wᵀ for a quantised w, and a bias. */
const matMulNBits: Cost = (node, size) =>
  size(node.outputs[0]) * (2 * lastDims(node.inputs[0], size, 1) + (node.inputs[5] ? 1 : 0));

/** q kᵀ, softmax (5 an element, and one for a bias), and the product with v: q [B, S, H·d], k [B, T, H·d], v [B, T, H·e]. */
const multiHeadAttention: Cost = (node, size) => {
  const [q, k, v, , , bias] = node.inputs;
  const pairs = (size(q) / lastDims(q, size, 1)) * axisSize(k, 1, size);
  const heads = node.attributes['num_heads'];
  if (heads?.kind !== 'int') throw internal(`${node.name} has no number of heads`);
  const products = 2 * pairs * (lastDims(q, size, 1) + lastDims(v, size, 1));
  return products + pairs * heads.value * (bias ? 6 : 5);
};

/** As above, of queries, keys and values that lie in one product [B, S, 3 · H·d]; with a past, each query is counted as seeing all C places. */
const groupQueryAttention: Cost = (node, size) => {
  const [qkv, , , past] = node.inputs;
  const heads = node.attributes['num_heads'];
  if (heads?.kind !== 'int') throw internal(`${node.name} has no number of heads`);
  const width = lastDims(qkv, size, 1) / 3;
  const queries = size(qkv) / (3 * width);
  const pairs = queries * (past ? axisSize(past, 2, size) : (axisSize(qkv, 1, size) + 1) / 2);
  return pairs * (4 * width + 5 * heads.value);
};

const normalised = (flops: number, biasAt: number): Cost => {
  return (node, size) => size(node.inputs[0]) * (flops + (node.inputs[biasAt] ? 1 : 0));
};

/** By operator; an operator that is not in the table is refused by name. */
const costs: Readonly<Record<string, Cost>> = {
  ...table(output, ['Add', 'Sub', 'Mul', 'Div', 'Pow', 'Min', 'Max', 'Mod']),
  ...table(output, [
    'Neg',
    'Exp',
    'Log',
    'Sqrt',
    'Reciprocal',
    'Erf',
    'Tanh',
    'Sigmoid',
    'Relu',
    'Abs',
    'Floor',
    'Ceil',
    'Clip',
  ]),
  ...table(output, ['Less', 'LessOrEqual', 'Greater', 'GreaterOrEqual', 'Equal', 'And', 'Or', 'Not', 'Where']),
  ...table(perOutput(8), ['Gelu', 'com.microsoft:Gelu', 'com.microsoft:FastGelu']),
  ...table(perOutput(5), ['Softmax', 'LogSoftmax']),
  ...table(perInput, ['ReduceSum', 'ReduceMean', 'ReduceMax', 'ReduceMin', 'ArgMin', 'ArgMax', 'TopK', 'CumSum']),
  ...table(none, [
    'Reshape',
    'Transpose',
    'Expand',
    'Concat',
    'Split',
    'Slice',
    'Pad',
    'Squeeze',
    'Unsqueeze',
    'Identity',
    'SequenceConstruct',
  ]),
  ...table(none, ['Shape', 'Cast', 'Gather', 'GatherElements', 'GatherND', 'NonZero', 'Compress', 'Range']),
  ReduceSumSquare: (node, size) => 2 * size(node.inputs[0]),
  MatMul: matMul,
  Gemm: gemm,
  LayerNormalization: normalised(7, Infinity),
  'com.microsoft:BiasGelu': normalised(8, 1),
  'com.microsoft:SkipLayerNormalization': normalised(8, 4),
  'com.microsoft:MultiHeadAttention': multiHeadAttention,
  'com.microsoft:MatMulNBits': matMulNBits,
  'com.microsoft:GatherBlockQuantized': perOutput(2),
  'com.microsoft:GroupQueryAttention': groupQueryAttention,
  ScatterElements: (node, size) => (adds(node) ? size(node.inputs[2]) : 0),
  ScatterND: (node, size) => (adds(node) ? size(node.inputs[2]) : 0),
};

/**
 * Counts what one run of the graph computes. Throws INTERNAL naming the symbol that `symbols` does not bind, or the operator
 * that has no count.
 */
export function countFlops(graph: Graph, symbols: SymbolValues = {}): FlopCount {
  const size: Size = (value) => value?.shape.reduce<number>((n, dim) => n * bound(dim, value, symbols), 1) ?? 0;
  const byOp: Record<string, number> = {};
  let total = 0;
  for (const node of graph.nodes) {
    const op = node.domain === '' ? node.op : `${node.domain}:${node.op}`;
    const cost = costs[op];
    if (!cost) throw internal(`no count of the operations of ${op} (${node.name})`);
    // Integers and conditions are bookkeeping about shapes and places; comparisons of floats are counted by their outputs.
    const flops = /^int/.test(node.outputs[0]?.type ?? '') && !node.op.startsWith('Arg') ? 0 : cost(node, size);
    if (flops === 0) continue;
    byOp[op] = (byOp[op] ?? 0) + flops;
    total += flops;
  }
  return { total, byOp };
}

/** A dimension as a number. */
function bound(dim: Dim, value: Value, symbols: SymbolValues): number {
  if (typeof dim === 'number') return dim;
  const known = symbols[dim];
  if (known !== undefined) return known;
  const factors = dim.split('·');
  if (factors.length === 1) {
    throw internal(`symbol ${dim} of ${value.name} ${describe(value.shape)} is not bound to a number`);
  }
  return factors.reduce((n, factor) => n * (/^\d+$/.test(factor) ? Number(factor) : bound(factor, value, symbols)), 1);
}

/** The product of the last `count` dimensions. */
function lastDims(value: Value | undefined, size: Size, count: number): number {
  return value ? size({ ...value, shape: value.shape.slice(-count) }) : 0;
}

function axisSize(value: Value | undefined, axis: number, size: Size): number {
  const shape: Shape = value?.shape.slice(axis, axis + 1) ?? [];
  return value ? size({ ...value, shape }) : 0;
}

function flag(node: Node, name: string): boolean {
  const attribute = node.attributes[name];
  return attribute?.kind === 'int' && attribute.value === 1;
}

function adds(node: Node): boolean {
  const reduction = node.attributes['reduction'];
  return reduction?.kind === 'string' && reduction.value !== 'none';
}

function table(cost: Cost, ops: readonly string[]): Record<string, Cost> {
  return Object.fromEntries(ops.map((op) => [op, cost]));
}
