import type { GraphBuilder } from '../builder.js';
import type { Shape, Value } from '../ir.js';
import { axisOf } from '../shapes.js';

type Reduction = 'ReduceSum' | 'ReduceSumSquare' | 'ReduceMean' | 'ReduceMax' | 'ReduceMin';

/** Reduces the axes (all when none are given); they stay as ones unless `keepDims` is false. */
function reduce(g: GraphBuilder, op: Reduction, x: Value, axes: readonly number[], keepDims: boolean): Value {
  const rank = x.shape.length;
  const reduced = new Set(axes.map((a) => axisOf(a, rank)));
  const shape: Shape = keepDims
    ? x.shape.map((dim, i) => (reduced.has(i) ? 1 : dim))
    : x.shape.filter((_, i) => !reduced.has(i));
  return g.emitOne({
    op,
    inputs: [x, g.integers([...reduced].sort((a, b) => a - b))],
    attributes: { keepdims: { kind: 'int', value: keepDims ? 1 : 0 } },
    output: { type: x.type, shape },
  });
}

export const reduceSum = (g: GraphBuilder, x: Value, axes: readonly number[], keepDims = true): Value =>
  axes.length === 0 ? x : reduce(g, 'ReduceSum', x, axes, keepDims);
/** Σ x². */
export const reduceSumSquare = (g: GraphBuilder, x: Value, axes: readonly number[], keepDims = true): Value =>
  reduce(g, 'ReduceSumSquare', x, axes, keepDims);
export const reduceMean = (g: GraphBuilder, x: Value, axes: readonly number[], keepDims = true): Value =>
  axes.length === 0 ? x : reduce(g, 'ReduceMean', x, axes, keepDims);
export const reduceMax = (g: GraphBuilder, x: Value, axes: readonly number[], keepDims = true): Value =>
  reduce(g, 'ReduceMax', x, axes, keepDims);
export const reduceMin = (g: GraphBuilder, x: Value, axes: readonly number[], keepDims = true): Value =>
  reduce(g, 'ReduceMin', x, axes, keepDims);
