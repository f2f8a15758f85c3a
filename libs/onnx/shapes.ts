import { internal } from '../errors/error.js';
import type { Dim, Shape } from './ir.js';

/** The shape of a broadcast (numpy's rule, https://onnx.ai/onnx/repo-docs/Broadcasting.html). A symbol equals only itself. */
export function broadcast(a: Shape, b: Shape): Shape {
  const rank = Math.max(a.length, b.length);
  const out: Dim[] = [];
  for (let i = 0; i < rank; i++) {
    const x = a[a.length - rank + i] ?? 1;
    const y = b[b.length - rank + i] ?? 1;
    if (x === y || y === 1) out.push(x);
    else if (x === 1) out.push(y);
    else throw internal(`shapes ${describe(a)} and ${describe(b)} do not broadcast`);
  }
  return out;
}

/** The axes of `full` along which `part` was broadcast to reach it, for a reduction that undoes the broadcast. */
export function broadcastAxes(part: Shape, full: Shape): number[] {
  const axes: number[] = [];
  for (let i = 0; i < full.length; i++) {
    const dim = part[part.length - full.length + i];
    if (dim === undefined || (dim === 1 && full[i] !== 1)) axes.push(i);
  }
  return axes;
}

/** A non-negative axis; throws when it is out of range. */
export function axisOf(axis: number, rank: number): number {
  const a = axis < 0 ? axis + rank : axis;
  if (a < 0 || a >= rank) throw internal(`axis ${axis} of a tensor of rank ${rank}`);
  return a;
}

export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((dim, i) => dim === b[i]);
}

/** The product of the dimensions that are numbers. Throws on a symbol. */
export function elementCount(shape: Shape): number {
  return shape.reduce<number>((n, dim) => {
    if (typeof dim !== 'number') throw internal(`dimension ${dim} of ${describe(shape)} is not known`);
    return n * dim;
  }, 1);
}

/** [B, 65, 96] */
export function describe(shape: Shape): string {
  return `[${shape.join(', ')}]`;
}

/** The one dimension as a number; throws on a symbol. */
export function fixed(dim: Dim | undefined, what: string): number {
  if (typeof dim !== 'number') throw internal(`${what} must be known when the graph is built`);
  return dim;
}
