import { internal } from '../../errors/error.js';
import type { GraphBuilder } from '../../onnx/builder.js';
import type { Node, Value } from '../../onnx/ir.js';
import { add, cast, div, erf, exp, greater, mul, neg, reciprocal, sub } from '../../onnx/ops/index.js';
import { difference, linear, scaled, spread, sum, unbroadcast } from '../algebra.js';
import { composite } from '../composite.js';
import type { Rule, RuleFamily } from '../rule.js';

function operands(node: Node): [Value, Value] {
  const [a, b] = node.inputs;
  if (!a || !b) throw internal(`${node.name} has two inputs`);
  return [a, b];
}

function argument(node: Node): { x: Value; y: Value } {
  const [x] = node.inputs;
  const [y] = node.outputs;
  if (!x || !y) throw internal(`${node.name} has an input and an output`);
  return { x, y };
}

/** A unary operator with y' = derivative(x, y): both directions multiply by it. */
function pointwise(derivative: (g: GraphBuilder, x: Value, y: Value) => Value): Rule {
  return {
    pullback: ({ g, node, cotangents: [dy] }) => {
      const { x, y } = argument(node);
      return [linear(dy, (d) => mul(g, d, derivative(g, x, y)))];
    },
    pushforward: ({ g, node, tangents: [dx] }) => {
      const { x, y } = argument(node);
      return [linear(dx, (d) => mul(g, d, derivative(g, x, y)))];
    },
  };
}

/** φ(x) = exp(−x²/2) / √2π, the density of the normal distribution. */
function normalDensity(g: GraphBuilder, x: Value): Value {
  return mul(g, exp(g, mul(g, mul(g, x, x), -0.5)), 1 / Math.sqrt(2 * Math.PI));
}

/** gelu'(x) = Φ(x) + x φ(x);  gelu''(x) = φ(x) (2 − x²). */
export function geluDerivative(g: GraphBuilder, x: Value): Value {
  const half = mul(g, erf(g, mul(g, x, Math.SQRT1_2)), 0.5);
  const first = add(g, add(g, half, 0.5), mul(g, x, normalDensity(g, x)));
  return composite(first, {
    inputs: [x],
    pushforward: (h, [dx]) => scaled(h, dx, mul(h, normalDensity(h, x), sub(h, 2, mul(h, x, x)))),
  });
}

/** dy ∘ f'(x) as one expression, so that every probe shares dy ∘ f''(x): d = ḋy ∘ f' + (dy ∘ f'') ∘ ẋ. */
function geluPullback(g: GraphBuilder, dy: Value, x: Value): Value {
  const first = geluDerivative(g, x);
  return composite(mul(g, dy, first), {
    inputs: [dy, x],
    pushforward: (h, [ddy, dx]) => {
      const curvature = (): Value => mul(h, dy, mul(h, normalDensity(h, x), sub(h, 2, mul(h, x, x))));
      return sum(
        h,
        scaled(h, ddy, first),
        linear(dx, (d) => mul(h, d, curvature())),
      );
    },
  });
}

export const arithmeticRules: RuleFamily<
  | 'Add'
  | 'Sub'
  | 'Mul'
  | 'Div'
  | 'Neg'
  | 'Exp'
  | 'Log'
  | 'Sqrt'
  | 'Reciprocal'
  | 'Erf'
  | 'Tanh'
  | 'Gelu'
  | 'Relu'
  | 'Identity'
> = {
  // y = a + b:  ȧ + ḃ;  ā = ȳ, b̄ = ȳ
  Add: {
    pullback: ({ g, node, cotangents: [dy], wanted }) =>
      operands(node).map((v, i) => (wanted[i] ? linear(dy, (d) => unbroadcast(g, d, v.shape)) : undefined)),
    pushforward: ({ g, node, tangents: [da, db] }) => [spread(g, sum(g, da, db), argument(node).y)],
  },
  // y = a − b:  ȧ − ḃ;  ā = ȳ, b̄ = −ȳ
  Sub: {
    pullback: ({ g, node, cotangents: [dy], wanted }) => {
      const [a, b] = operands(node);
      return [
        wanted[0] ? linear(dy, (d) => unbroadcast(g, d, a.shape)) : undefined,
        wanted[1] ? linear(dy, (d) => neg(g, unbroadcast(g, d, b.shape))) : undefined,
      ];
    },
    pushforward: ({ g, node, tangents: [da, db] }) => [spread(g, difference(g, da, db), argument(node).y)],
  },
  // y = a b:  ȧ b + a ḃ;  ā = ȳ b, b̄ = ȳ a
  Mul: {
    pullback: ({ g, node, cotangents: [dy], wanted }) => {
      const [a, b] = operands(node);
      return [
        wanted[0] ? linear(dy, (d) => unbroadcast(g, mul(g, d, b), a.shape)) : undefined,
        wanted[1] ? linear(dy, (d) => unbroadcast(g, mul(g, d, a), b.shape)) : undefined,
      ];
    },
    pushforward: ({ g, node, tangents: [da, db] }) => {
      const [a, b] = operands(node);
      return [sum(g, scaled(g, da, b), scaled(g, db, a))];
    },
  },
  // y = a / b:  (ȧ − y ḃ) / b;  ā = ȳ / b, b̄ = −ȳ y / b
  Div: {
    pullback: ({ g, node, cotangents: [dy], wanted }) => {
      const [a, b] = operands(node);
      const { y } = argument(node);
      return [
        wanted[0] ? linear(dy, (d) => unbroadcast(g, div(g, d, b), a.shape)) : undefined,
        wanted[1] ? linear(dy, (d) => unbroadcast(g, neg(g, div(g, mul(g, d, y), b)), b.shape)) : undefined,
      ];
    },
    pushforward: ({ g, node, tangents: [da, db] }) => {
      const [, b] = operands(node);
      const { y } = argument(node);
      return [
        spread(
          g,
          linear(difference(g, da, scaled(g, db, y)), (d) => div(g, d, b)),
          y,
        ),
      ];
    },
  },
  // y = −x:  −ẋ;  x̄ = −ȳ
  Neg: {
    pullback: ({ g, cotangents: [dy] }) => [linear(dy, (d) => neg(g, d))],
    pushforward: ({ g, tangents: [dx] }) => [linear(dx, (d) => neg(g, d))],
  },
  // y = eˣ:  y' = y
  Exp: pointwise((_, __, y) => y),
  // y = log x:  y' = 1 / x
  Log: pointwise((g, x) => reciprocal(g, x)),
  // y = √x:  y' = 1 / 2y
  Sqrt: pointwise((g, _, y) => div(g, 0.5, y)),
  // y = 1 / x:  y' = −y²
  Reciprocal: pointwise((g, _, y) => neg(g, mul(g, y, y))),
  // y = erf x:  y' = 2/√π e^(−x²)
  Erf: pointwise((g, x) => mul(g, exp(g, neg(g, mul(g, x, x))), 2 / Math.sqrt(Math.PI))),
  // y = tanh x:  y' = 1 − y²
  Tanh: pointwise((g, _, y) => sub(g, 1, mul(g, y, y))),
  // y = max(x, 0):  y' = [x > 0], whose own derivative is taken as zero
  Relu: pointwise((g, x) => cast(g, greater(g, x, g.constant(0)), g.float)),
  // y = x Φ(x):  y' = Φ(x) + x φ(x)
  Gelu: {
    pullback: ({ g, node, cotangents: [dy] }) => [linear(dy, (d) => geluPullback(g, d, argument(node).x))],
    pushforward: ({ g, node, tangents: [dx] }) => [linear(dx, (d) => mul(g, d, geluDerivative(g, argument(node).x)))],
  },
  // y = x
  Identity: {
    pullback: ({ cotangents: [dy] }) => [dy],
    pushforward: ({ tangents: [dx] }) => [dx],
  },
};
