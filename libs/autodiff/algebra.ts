import type { GraphBuilder } from '../onnx/builder.js';
import { add, expandLike, expandTo, mul, neg, reduceSum, reshape, shapeOf, sub } from '../onnx/ops/index.js';
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

/** The tangent of an operand that was broadcast: in the shape of the result that it is a term of. */
export function spread(g: GraphBuilder, tangent: Derivative, like: Value): Derivative {
  return tangent && expandLike(g, tangent, like);
}

/** The cotangent of an operand that was broadcast: summed back to the operand's shape. */
export function unbroadcast(g: GraphBuilder, cotangent: Value, shape: Shape): Value {
  if (sameShape(cotangent.shape, shape)) return cotangent;
  const axes = broadcastAxes(shape, cotangent.shape);
  const reduced = reduceSum(g, cotangent, axes);
  return sameShape(reduced.shape, shape) ? reduced : reshape(g, reduced, shape);
}

/** Zeros in the shape of a value, which may be known only at run time. */
export function zeros(g: GraphBuilder, like: Value): Value {
  return everywhere(g, 0, like);
}

/** One number in the shape of a value. */
export function everywhere(g: GraphBuilder, constant: number, like: Value): Value {
  const scalar = g.constant(constant);
  return like.shape.length === 0 ? scalar : expandTo(g, scalar, shapeOf(g, like), like.shape);
}
