import type { GraphBuilder } from '../builder.js';
import type { Dim, Shape, Value } from '../ir.js';
import { axisOf, broadcast } from '../shapes.js';

/** Comparison, choice, and indices: what a graph needs to decide at run time. None of it is differentiable but Where and Gather. */

type Comparison = 'Less' | 'LessOrEqual' | 'Greater' | 'GreaterOrEqual' | 'Equal' | 'And' | 'Or';

function compare(g: GraphBuilder, op: Comparison, a: Value, b: Value): Value {
  return g.emitOne({ op, inputs: [a, b], output: { type: 'bool', shape: broadcast(a.shape, b.shape) } });
}

export const less = (g: GraphBuilder, a: Value, b: Value): Value => compare(g, 'Less', a, b);
export const lessOrEqual = (g: GraphBuilder, a: Value, b: Value): Value => compare(g, 'LessOrEqual', a, b);
export const greater = (g: GraphBuilder, a: Value, b: Value): Value => compare(g, 'Greater', a, b);
export const greaterOrEqual = (g: GraphBuilder, a: Value, b: Value): Value => compare(g, 'GreaterOrEqual', a, b);
export const equal = (g: GraphBuilder, a: Value, b: Value): Value => compare(g, 'Equal', a, b);
export const and = (g: GraphBuilder, a: Value, b: Value): Value => compare(g, 'And', a, b);
export const or = (g: GraphBuilder, a: Value, b: Value): Value => compare(g, 'Or', a, b);
export const not = (g: GraphBuilder, x: Value): Value =>
  g.emitOne({ op: 'Not', inputs: [x], output: { type: 'bool', shape: x.shape } });

/** condition ? a : b, element-wise. */
export function where(g: GraphBuilder, condition: Value, a: Value, b: Value): Value {
  const shape = broadcast(condition.shape, broadcast(a.shape, b.shape));
  return g.emitOne({ op: 'Where', inputs: [condition, a, b], output: { type: a.type, shape } });
}

/** x[indices] along one axis; the indices' shape takes the axis' place. */
export function gather(g: GraphBuilder, x: Value, indices: Value, axis = 0): Value {
  const a = axisOf(axis, x.shape.length);
  return g.emitOne({
    op: 'Gather',
    inputs: [x, indices],
    attributes: { axis: { kind: 'int', value: a } },
    output: { type: x.type, shape: [...x.shape.slice(0, a), ...indices.shape, ...x.shape.slice(a + 1)] },
  });
}

/** out[i][j] = x[index[i][j]][j] for axis 0; the result has the shape of the indices. */
export function gatherElements(g: GraphBuilder, x: Value, indices: Value, axis: number): Value {
  return g.emitOne({
    op: 'GatherElements',
    inputs: [x, indices],
    attributes: { axis: { kind: 'int', value: axisOf(axis, x.shape.length) } },
    output: { type: x.type, shape: indices.shape },
  });
}

/** Adds (or takes the least, greatest, or the value of) updates to x at indices along an axis. */
export function scatterElements(
  g: GraphBuilder,
  x: Value,
  indices: Value,
  updates: Value,
  axis: number,
  reduction: 'none' | 'add' | 'min' | 'max' = 'none',
): Value {
  return g.emitOne({
    op: 'ScatterElements',
    inputs: [x, indices, updates],
    attributes: {
      axis: { kind: 'int', value: axisOf(axis, x.shape.length) },
      reduction: { kind: 'string', value: reduction },
    },
    output: { type: x.type, shape: x.shape },
  });
}

/**
 * Whole rows: x[indices[i]] is replaced by, or gets added, updates[i]. indices [..., K] are coordinates of the first K axes, each at
 * most once: the runtime's CPU kernel adds by several threads without a lock, and repeated ones lose sums.
 */
export function scatterND(
  g: GraphBuilder,
  x: Value,
  indices: Value,
  updates: Value,
  reduction: 'none' | 'add' = 'none',
): Value {
  return g.emitOne({
    op: 'ScatterND',
    inputs: [x, indices, updates],
    attributes: { reduction: { kind: 'string', value: reduction } },
    output: { type: x.type, shape: x.shape },
  });
}

/** Rows of x by coordinates of its first K axes. indices [..., K]. */
export function gatherND(g: GraphBuilder, x: Value, indices: Value): Value {
  const k = Number(indices.shape[indices.shape.length - 1]);
  const shape: Shape = [...indices.shape.slice(0, -1), ...x.shape.slice(k)];
  return g.emitOne({ op: 'GatherND', inputs: [x, indices], output: { type: x.type, shape } });
}

/** The coordinates of all that is not zero, int64 [rank, count]. */
export function nonZero(g: GraphBuilder, x: Value, count: Dim): Value {
  return g.emitOne({ op: 'NonZero', inputs: [x], output: { type: 'int64', shape: [x.shape.length, count] } });
}

/** The slices of x along an axis where a boolean vector holds. */
export function compress(g: GraphBuilder, x: Value, condition: Value, axis: number, count: Dim): Value {
  const a = axisOf(axis, x.shape.length);
  return g.emitOne({
    op: 'Compress',
    inputs: [x, condition],
    attributes: { axis: { kind: 'int', value: a } },
    output: { type: x.type, shape: x.shape.map((d, i) => (i === a ? count : d)) },
  });
}

function argument(g: GraphBuilder, op: 'ArgMin' | 'ArgMax', x: Value, axis: number, keepDims: boolean): Value {
  const a = axisOf(axis, x.shape.length);
  const shape = keepDims ? x.shape.map((d, i) => (i === a ? 1 : d)) : x.shape.filter((_, i) => i !== a);
  return g.emitOne({
    op,
    inputs: [x],
    attributes: { axis: { kind: 'int', value: a }, keepdims: { kind: 'int', value: keepDims ? 1 : 0 } },
    output: { type: 'int64', shape },
  });
}

/** The index of the least element along an axis, the first of equals. */
export const argMin = (g: GraphBuilder, x: Value, axis: number, keepDims = true): Value =>
  argument(g, 'ArgMin', x, axis, keepDims);
/** The index of the greatest element along an axis, the first of equals. */
export const argMax = (g: GraphBuilder, x: Value, axis: number, keepDims = true): Value =>
  argument(g, 'ArgMax', x, axis, keepDims);

/** The least element along an axis and its index, the first of equals; the axis stays with length 1. */
export function least(g: GraphBuilder, x: Value, axis: number): { value: Value; index: Value } {
  const a = axisOf(axis, x.shape.length);
  const shape = x.shape.map((dim, i) => (i === a ? 1 : dim));
  const [value, index] = g.emit({
    op: 'TopK',
    inputs: [x, g.integers([1])],
    attributes: {
      axis: { kind: 'int', value: a },
      largest: { kind: 'int', value: 0 },
      sorted: { kind: 'int', value: 1 },
    },
    outputs: [
      { type: x.type, shape },
      { type: 'int64', shape },
    ],
  });
  return { value: value!, index: index! };
}

/** The k greatest (or least) along the last axis, sorted, with their indices. k is int64 [1], `dim` its name or number. */
export function topK(
  g: GraphBuilder,
  x: Value,
  k: Value,
  dim: Dim,
  largest: boolean,
): { values: Value; indices: Value } {
  const shape = [...x.shape.slice(0, -1), dim];
  const [values, indices] = g.emit({
    op: 'TopK',
    inputs: [x, k],
    attributes: {
      axis: { kind: 'int', value: -1 },
      largest: { kind: 'int', value: largest ? 1 : 0 },
      sorted: { kind: 'int', value: 1 },
    },
    outputs: [
      { type: x.type, shape },
      { type: 'int64', shape },
    ],
  });
  return { values: values!, indices: indices! };
}

/** Running sums along an axis; exclusive ones leave out the element itself. */
export function cumSum(g: GraphBuilder, x: Value, axis: number, exclusive = false): Value {
  return g.emitOne({
    op: 'CumSum',
    inputs: [x, g.integers(axisOf(axis, x.shape.length))],
    attributes: { exclusive: { kind: 'int', value: exclusive ? 1 : 0 } },
    output: { type: x.type, shape: x.shape },
  });
}

/** start, start + 1, … below limit (int64 scalars). */
export function range(g: GraphBuilder, limit: Value, dim: Dim): Value {
  return g.emitOne({
    op: 'Range',
    inputs: [g.integers(0), limit, g.integers(1)],
    output: { type: 'int64', shape: [dim] },
  });
}
