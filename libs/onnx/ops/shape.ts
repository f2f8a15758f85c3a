import { internal } from '../../errors/error.js';
import type { GraphBuilder } from '../builder.js';
import type { Dim, Shape, Value } from '../ir.js';
import { axisOf, describe, sameShape } from '../shapes.js';

/**
 * x with another shape. A symbol may stand at its own place (copied), and one more dimension may be a symbol (inferred).
 */
export function reshape(g: GraphBuilder, x: Value, shape: Shape): Value {
  if (sameShape(x.shape, shape)) return x;
  let inferred = 0;
  const target = shape.map((dim, i) => {
    if (typeof dim === 'number') return dim;
    if (x.shape[i] === dim && shape.slice(0, i).every((d, j) => d === x.shape[j] || typeof d === 'number')) return 0;
    inferred++;
    return -1;
  });
  if (inferred > 1) throw internal(`Reshape of ${describe(x.shape)} to ${describe(shape)} leaves two dimensions open`);
  return reshapeTo(g, x, g.integers(target), shape);
}

/** x with the shape that an int64 vector gives at run time; `shape` is what the builder knows of it. */
export function reshapeTo(g: GraphBuilder, x: Value, target: Value, shape: Shape): Value {
  return g.emitOne({ op: 'Reshape', inputs: [x, target], output: { type: x.type, shape } });
}

/** Output axis i is input axis perm[i]. */
export function transpose(g: GraphBuilder, x: Value, perm: readonly number[]): Value {
  if (perm.every((axis, i) => axis === i)) return x;
  const shape = perm.map((axis) => x.shape[axisOf(axis, x.shape.length)]!);
  return g.emitOne({
    op: 'Transpose',
    inputs: [x],
    attributes: { perm: { kind: 'ints', value: perm } },
    output: { type: x.type, shape },
  });
}

/** The last two axes exchanged. */
export function transposeLast(g: GraphBuilder, x: Value): Value {
  const rank = x.shape.length;
  return transpose(g, x, [...Array(rank - 2).keys(), rank - 1, rank - 2]);
}

/** x broadcast to the shape of another value. */
export function expandLike(g: GraphBuilder, x: Value, like: Value): Value {
  if (sameShape(x.shape, like.shape)) return x;
  return expandTo(g, x, shapeOf(g, like), like.shape);
}

/** x broadcast to a shape given at run time. */
export function expandTo(g: GraphBuilder, x: Value, target: Value, shape: Shape): Value {
  return g.emitOne({ op: 'Expand', inputs: [x, target], output: { type: x.type, shape } });
}

/** The int64 vector of dimensions, of the axes from `start` up to `end` if these are given. */
export function shapeOf(g: GraphBuilder, x: Value, start = 0, end = x.shape.length): Value {
  const part = start > 0 || end < x.shape.length;
  const attributes = { start: { kind: 'int', value: start }, end: { kind: 'int', value: end } } as const;
  const output = { type: 'int64', shape: [end - start] } as const;
  return g.emitOne({ op: 'Shape', inputs: [x], output, ...(part ? { attributes } : {}) });
}

/** One dimension as an int64 vector of length 1. */
export function dimOf(g: GraphBuilder, x: Value, axis: number): Value {
  const a = axisOf(axis, x.shape.length);
  return shapeOf(g, x, a, a + 1);
}

/** The values one after another along an axis. A sum of symbols gets the name `dim`. */
export function concat(g: GraphBuilder, values: readonly Value[], axis: number, dim?: Dim): Value {
  const first = values[0];
  if (!first) throw internal('Concat of nothing');
  if (values.length === 1) return first;
  const a = axisOf(axis, first.shape.length);
  const sizes = values.map((v) => v.shape[a]!);
  const total = sizes.every((s) => typeof s === 'number') ? sizes.reduce<number>((x, y) => x + Number(y), 0) : dim;
  if (total === undefined) throw internal(`Concat along the symbol ${sizes.join(' + ')} needs a name`);
  return g.emitOne({
    op: 'Concat',
    inputs: values,
    attributes: { axis: { kind: 'int', value: a } },
    output: { type: first.type, shape: first.shape.map((d, i) => (i === a ? total : d)) },
  });
}

/** x[start:end:step] along one axis. `dim` names what is left of a symbol. */
export function slice(g: GraphBuilder, x: Value, axis: number, start: number, end: number, dim?: Dim, step = 1): Value {
  const a = axisOf(axis, x.shape.length);
  const size = x.shape[a]!;
  let left = dim;
  if (typeof size === 'number') {
    const from = start < 0 ? Math.max(start + size, 0) : Math.min(start, size);
    const to = end < 0 ? end + size : Math.min(end, size);
    left = Math.max(0, Math.ceil((to - from) / step));
  }
  if (left === undefined) throw internal(`Slice along the symbol ${size} needs a name`);
  return g.emitOne({
    op: 'Slice',
    inputs: [x, g.integers([start]), g.integers([end]), g.integers([a]), g.integers([step])],
    output: { type: x.type, shape: x.shape.map((d, i) => (i === a ? left : d)) },
  });
}

/** x cut into parts of these sizes along an axis whose length is known. */
export function split(g: GraphBuilder, x: Value, axis: number, sizes: readonly number[]): Value[] {
  const a = axisOf(axis, x.shape.length);
  const total = sizes.reduce((sum, size) => sum + size, 0);
  if (x.shape[a] !== total) throw internal(`Split of ${describe(x.shape)} into ${sizes.join(' + ')} along axis ${a}`);
  const outputs = sizes.map((size) => ({ type: x.type, shape: x.shape.map((d, i) => (i === a ? size : d)) }));
  const attributes = { axis: { kind: 'int', value: a } } as const;
  return [...g.emit({ op: 'Split', inputs: [x, g.integers([...sizes])], attributes, outputs })];
}

/** x[start:end] along one axis, the bounds known at run time (int64 [1] each). */
export function sliceBy(g: GraphBuilder, x: Value, axis: number, start: Value, end: Value, dim: Dim): Value {
  const a = axisOf(axis, x.shape.length);
  return g.emitOne({
    op: 'Slice',
    inputs: [x, start, end, g.integers([a])],
    output: { type: x.type, shape: x.shape.map((d, i) => (i === a ? dim : d)) },
  });
}

/** Drops axes of length one. */
export function squeeze(g: GraphBuilder, x: Value, axes: readonly number[]): Value {
  const drop = new Set(axes.map((axis) => axisOf(axis, x.shape.length)));
  return g.emitOne({
    op: 'Squeeze',
    inputs: [x, g.integers([...drop])],
    output: { type: x.type, shape: x.shape.filter((_, i) => !drop.has(i)) },
  });
}

/** Adds axes of length one at these places of the result. */
export function unsqueeze(g: GraphBuilder, x: Value, axes: readonly number[]): Value {
  const rank = x.shape.length + axes.length;
  const at = new Set(axes.map((axis) => axisOf(axis, rank)));
  const rest = [...x.shape];
  const shape = Array.from({ length: rank }, (_, i) => (at.has(i) ? 1 : rest.shift()!));
  return g.emitOne({ op: 'Unsqueeze', inputs: [x, g.integers([...at])], output: { type: x.type, shape } });
}

/** Zeros before and after along one axis. */
export function padZeros(g: GraphBuilder, x: Value, axis: number, before: number, after: number): Value {
  const rank = x.shape.length;
  const a = axisOf(axis, rank);
  const size = x.shape[a]!;
  if (typeof size !== 'number') throw internal(`Pad along the symbol ${size}`);
  const pads = Array.from({ length: 2 * rank }, (_, i) => (i === a ? before : i === a + rank ? after : 0));
  return g.emitOne({
    op: 'Pad',
    inputs: [x, g.integers(pads)],
    output: { type: x.type, shape: x.shape.map((d, i) => (i === a ? size + before + after : d)) },
  });
}
