import type { FloatType, GraphBuilder } from '../../onnx/builder.js';
import type { Shape, Value } from '../../onnx/ir.js';
import * as o from '../../onnx/ops/index.js';
import { booleanTensor } from '../../onnx/tensor.js';
import type { DifferentiableOp } from '../operators.js';

/** One use of an operator: inputs of these shapes, drawn from an interval, and what is built of them. */
export interface RuleCase {
  readonly what: string;
  readonly shapes: readonly Shape[];
  /** Where the inputs are drawn from; default [−1, 1]. */
  readonly interval?: readonly [number, number];
  /** float32 where the runtime has no float64 kernel. */
  readonly float?: FloatType;
  readonly build: (g: GraphBuilder, ...inputs: Value[]) => Value;
}

const positive = [0.5, 2] as const;
const M = [2, 3] as const;

function unary(build: (g: GraphBuilder, x: Value) => Value, interval?: readonly [number, number], float?: FloatType) {
  const base = { build: build, ...(interval && { interval }), ...(float && { float }) };
  return [
    { ...base, what: 'a matrix', shapes: [M] },
    { ...base, what: 'a batch by name', shapes: [['B', 3]] },
  ] satisfies RuleCase[];
}

function binary(build: (g: GraphBuilder, a: Value, b: Value) => Value, interval?: readonly [number, number]) {
  const base = { build: build, ...(interval && { interval }) };
  return [
    { ...base, what: 'equal shapes', shapes: [M, M] },
    { ...base, what: 'the first one smaller', shapes: [[3], [2, 4, 3]] },
    {
      ...base,
      what: 'the second one smaller',
      shapes: [
        ['B', 4, 3],
        [4, 1],
      ],
    },
    {
      ...base,
      what: 'each broadcast to the other',
      shapes: [
        ['B', 1, 3],
        [1, 4, 1],
      ],
    },
    { ...base, what: 'a scalar', shapes: [[], M] },
    { ...base, what: 'both the same', shapes: [M], build: (g: GraphBuilder, x: Value) => build(g, x, x) },
    { ...base, what: 'a constant on the right', shapes: [M], build: (g, x) => build(g, x, g.constant([1, 2], [2, 1])) },
    {
      ...base,
      what: 'a larger constant on the left',
      shapes: [[3]],
      build: (g, x) => build(g, g.constant([1, 2], [2, 1]), x),
    },
  ] satisfies RuleCase[];
}

const weight = (g: GraphBuilder, rows: number, columns: number): Value =>
  g.constant(
    Array.from({ length: rows * columns }, (_, i) => Math.sin(i + 1)),
    [rows, columns],
  );
const mask = (g: GraphBuilder, dims: readonly number[]): Value => {
  const count = dims.reduce((a, b) => a * b, 1);
  return g.initializer(
    `mask_${dims.join('_')}`,
    booleanTensor(
      dims,
      Array.from({ length: count }, (_, i) => i % 3 === 1),
    ),
  );
};
const normalise = (g: GraphBuilder, x: Value, gamma: Value, beta: Value): Value =>
  o.layerNormalization(g, x, gamma, beta, 1e-3).y;

function gemms(): RuleCase[] {
  return [false, true].flatMap((transA) =>
    [false, true].map((transB) => ({
      what: `a${transA ? 'ᵀ' : ''} b${transB ? 'ᵀ' : ''} + c`,
      shapes: [transA ? [4, 2] : [2, 4], transB ? [3, 4] : [4, 3], [3]],
      build: (g, a, b, c) => o.gemm(g, a, b, c, { transA, transB }),
    })),
  );
}

/** Every differentiable operator; one without a case does not compile. */
export const ruleCases: { readonly [Op in DifferentiableOp]: readonly RuleCase[] } = {
  Add: binary(o.add),
  Sub: binary(o.sub),
  Mul: binary(o.mul),
  Div: binary(o.div, positive),
  Neg: unary(o.neg),
  Exp: unary(o.exp),
  Log: unary(o.log, positive),
  Sqrt: unary(o.sqrt, positive),
  Reciprocal: unary(o.reciprocal, positive),
  Erf: unary(o.erf, [-2, 2], 'float32'),
  Tanh: unary(o.tanh, [-2, 2]),
  Gelu: unary(o.gelu, [-2, 2], 'float32'),
  Relu: [
    ...unary(o.relu, positive),
    {
      what: 'both sides of zero',
      shapes: [M],
      interval: [0.2, 0.8],
      build: (g, x) => o.relu(g, o.sub(g, x, g.constant([0, 1], [2, 1]))),
    },
  ],
  MatMul: [
    { what: 'matrices', shapes: [M, [3, 4]], build: o.matMul },
    {
      what: 'a batch times a matrix',
      shapes: [
        ['B', 2, 3],
        [3, 4],
      ],
      build: o.matMul,
    },
    {
      what: 'batch and heads',
      shapes: [
        ['B', 2, 3, 4],
        ['B', 2, 4, 3],
      ],
      build: o.matMul,
    },
    {
      what: 'broadcast heads',
      shapes: [
        [2, 1, 2, 3],
        [4, 3, 2],
      ],
      build: o.matMul,
    },
    {
      what: 'many rows and columns, a narrow inner dimension',
      shapes: [
        ['B', 2, 4, 2],
        ['B', 2, 2, 5],
      ],
      build: o.matMul,
    },
    {
      what: 'the same, transposed',
      shapes: [
        ['B', 4, 2],
        ['B', 5, 2],
      ],
      build: (g, a, b) => o.matMul(g, a, o.transposeLast(g, b)),
    },
    { what: 'x xᵀ', shapes: [M], build: (g, x) => o.matMul(g, x, o.transposeLast(g, x)) },
    { what: 'a constant matrix', shapes: [['B', 3]], build: (g, x) => o.matMul(g, x, weight(g, 3, 2)) },
  ],
  Gemm: [
    ...gemms(),
    {
      what: 'no bias',
      shapes: [
        ['B', 3],
        [4, 3],
      ],
      build: (g, a, b) => o.gemm(g, a, b, undefined, { transB: true }),
    },
    { what: 'the bias alone', shapes: [[3]], build: (g, c) => o.gemm(g, weight(g, 2, 4), weight(g, 4, 3), c) },
    { what: 'a scalar bias', shapes: [M, [1]], build: (g, a, c) => o.gemm(g, a, weight(g, 3, 3), c) },
  ],
  ReduceSum: [
    { what: 'the last axis, kept', shapes: [M], build: (g, x) => o.reduceSum(g, x, [-1]) },
    { what: 'two axes, dropped', shapes: [['B', 4, 3]], build: (g, x) => o.reduceSum(g, x, [0, 2], false) },
    { what: 'all', shapes: [M], build: (g, x) => o.reduceSum(g, x, [0, 1], false) },
  ],
  ReduceMean: [
    { what: 'the last axis, kept', shapes: [M], build: (g, x) => o.reduceMean(g, x, [-1]) },
    { what: 'a batch by name', shapes: [['B', 4, 3]], build: (g, x) => o.reduceMean(g, x, [0, 2], false) },
  ],
  Softmax: [
    ...unary((g, x) => o.softmax(g, x)),
    { what: 'another axis', shapes: [[2, 3, 2]], build: (g, x) => o.softmax(g, x, 1) },
  ],
  LogSoftmax: [
    ...unary((g, x) => o.logSoftmax(g, x)),
    { what: 'another axis', shapes: [[2, 3, 2]], build: (g, x) => o.logSoftmax(g, x, 1) },
  ],
  // The runtime gives the statistics in float32 whatever it normalises.
  LayerNormalization: [
    { float: 'float32', what: 'all three', shapes: [['B', 2, 4], [4], [4]], build: normalise },
    {
      float: 'float32',
      what: 'the input alone',
      shapes: [[2, 4]],
      build: (g, x) => normalise(g, x, g.constant([1, 2, -1, 0.5], [4]), g.constant([0, 1, 2, 3], [4])),
    },
    {
      float: 'float32',
      what: 'the scale alone',
      shapes: [[4]],
      build: (g, gamma) => normalise(g, weight(g, 2, 4), gamma, g.constant([0, 1, 2, 3], [4])),
    },
    {
      float: 'float32',
      what: 'the shift alone',
      shapes: [[4]],
      build: (g, beta) => normalise(g, weight(g, 2, 4), g.constant([1, 2, -1, 0.5], [4]), beta),
    },
  ],
  Reshape: [
    { what: 'numbers', shapes: [[2, 6]], build: (g, x) => o.reshape(g, x, [3, 4]) },
    { what: 'heads', shapes: [['B', 2, 6]], build: (g, x) => o.reshape(g, x, ['B', 2, 3, 2]) },
    { what: 'rows', shapes: [['B', 2, 3]], build: (g, x) => o.reshape(g, x, ['rows', 3]) },
  ],
  Transpose: [
    { what: 'a matrix', shapes: [M], build: o.transposeLast },
    { what: 'a cycle', shapes: [['B', 4, 3]], build: (g, x) => o.transpose(g, x, [2, 0, 1]) },
  ],
  Expand: [
    { what: 'a row', shapes: [[3]], build: (g, x) => o.expandLike(g, x, weight(g, 2, 3)) },
    {
      what: 'to the shape of a batch',
      shapes: [
        [1, 3],
        ['B', 3],
      ],
      build: (g, x, y) => o.expandLike(g, x, y),
    },
  ],
  Concat: [
    {
      what: 'two',
      shapes: [
        [2, 1],
        [2, 3],
      ],
      build: (g, a, b) => o.concat(g, [a, b], 1),
    },
    { what: 'one with itself', shapes: [M], build: (g, x) => o.concat(g, [x, x], 0) },
    { what: 'a constant before', shapes: [M], build: (g, x) => o.concat(g, [weight(g, 2, 2), x], 1) },
    {
      what: 'in a batch',
      shapes: [
        ['B', 1, 3],
        ['B', 2, 3],
      ],
      build: (g, a, b) => o.concat(g, [a, b], 1),
    },
  ],
  Slice: [
    { what: 'the middle', shapes: [[2, 5]], build: (g, x) => o.slice(g, x, 1, 1, 4) },
    { what: 'from the end', shapes: [['B', 5]], build: (g, x) => o.slice(g, x, -1, -3, -1) },
    { what: 'beyond the end', shapes: [['B', 5]], build: (g, x) => o.slice(g, x, 1, 2, 99) },
  ],
  Pad: [{ what: 'both sides', shapes: [['B', 3]], build: (g, x) => o.padZeros(g, x, 1, 1, 2) }],
  Squeeze: [{ what: 'two axes', shapes: [[1, 2, 1, 3]], build: (g, x) => o.squeeze(g, x, [0, 2]) }],
  Unsqueeze: [{ what: 'two axes', shapes: [['B', 3]], build: (g, x) => o.unsqueeze(g, x, [0, 2]) }],
  Gather: [
    { what: 'rows', shapes: [[4, 3]], build: (g, x) => o.gather(g, x, g.integers([2, 0])) },
    {
      what: 'rows more than once',
      shapes: [[4, 3]],
      build: (g, x) => o.gather(g, x, g.integers([1, 3, 1, 1], [2, 2])),
    },
    { what: 'one row', shapes: [[4, 3]], build: (g, x) => o.gather(g, x, g.integers(2)) },
  ],
  GatherND: [
    {
      what: 'rows more than once',
      shapes: [[4, 3]],
      build: (g, x) => o.gatherND(g, x, g.integers([1, 3, 1], [3, 1])),
    },
    { what: 'elements', shapes: [M], build: (g, x) => o.gatherND(g, x, g.integers([1, 2, 0, 1], [2, 2])) },
  ],
  ScatterND: [
    {
      what: 'rows added',
      shapes: [
        [4, 3],
        [2, 3],
      ],
      build: (g, x, u) => o.scatterND(g, x, g.integers([2, 0], [2, 1]), u, 'add'),
    },
    {
      what: 'one row twice',
      shapes: [
        [4, 3],
        [2, 3],
      ],
      build: (g, x, u) => o.scatterND(g, x, g.integers([1, 1], [2, 1]), u, 'add'),
    },
    {
      what: 'onto a constant',
      shapes: [[2, 3]],
      build: (g, u) => o.scatterND(g, weight(g, 4, 3), g.integers([2, 0], [2, 1]), u, 'add'),
    },
  ],
  Where: [
    { what: 'equal shapes', shapes: [M, M], build: (g, a, b) => o.where(g, mask(g, [2, 3]), a, b) },
    { what: 'the first alone, smaller', shapes: [[3]], build: (g, a) => o.where(g, mask(g, [3]), a, weight(g, 2, 3)) },
    {
      what: 'the second alone, smaller',
      shapes: [[1, 3]],
      build: (g, b) => o.where(g, mask(g, [2, 1]), g.constant(0), b),
    },
    {
      what: 'a condition that its input decides',
      shapes: [['B', 3]],
      build: (g, x) => o.where(g, o.less(g, x, g.constant(0.01)), o.mul(g, x, x), x),
    },
  ],
  Identity: [{ what: 'a name', shapes: [M], build: (g, x) => g.named('same', x) }],
};
