import type { GraphBuilder } from '../onnx/builder.js';
import { add, mul, neg, reduceSum, reshape, sub } from '../onnx/ops/index.js';
import type { Shape, Value } from '../onnx/ir.js';
import { broadcastAxes, sameShape } from '../onnx/shapes.js';
import type { Derivative } from './rule.js';

/** Sums in which an undefined term is zero. */
export function sum(g: GraphBuilder, ...terms: readonly Derivative[]): Derivative {
  return terms.reduce<Derivative>((total, term) => (!total ? term : !term ? total : add(g, total, term)), undefined);
}

/** a − b where an undefined term is zero. */
export function difference(g: GraphBuilder, a: Derivative, b: Derivative): Derivative {
  if (!b) return a;
  return a ? sub(g, a, b) : neg(g, b);
}

/** factor ∘ x, zero when x is. */
export function scaled(g: GraphBuilder, x: Derivative, factor: Value | number): Derivative {
  return x && mul(g, x, factor);
}

/** Applies a linear function to what is not zero. */
export function linear(x: Derivative, f: (x: Value) => Value): Derivative {
  return x && f(x);
}

/** The cotangent of an operand that was broadcast: summed back to the operand's shape. */
export function unbroadcast(g: GraphBuilder, cotangent: Value, shape: Shape): Value {
  if (sameShape(cotangent.shape, shape)) return cotangent;
  const axes = broadcastAxes(shape, cotangent.shape);
  const reduced = reduceSum(g, cotangent, axes);
  return sameShape(reduced.shape, shape) ? reduced : reshape(g, reduced, shape);
}
