import { internal } from '../../errors/error.js';
import type { GraphBuilder } from '../../onnx/builder.js';
import type { Node, Value } from '../../onnx/ir.js';
import { add, exp, mul, reduceMean, reduceSum, sub } from '../../onnx/ops/index.js';
import { difference, linear, scaled, spread, sum, unbroadcast } from '../algebra.js';
import { composite } from '../composite.js';
import type { Derivative, RuleFamily } from '../rule.js';

function axisAttribute(node: Node): number {
  const axis = node.attributes['axis'];
  return axis?.kind === 'int' ? axis.value : -1;
}

function single(node: Node): { x: Value; y: Value; axis: number } {
  const [x] = node.inputs;
  const [y] = node.outputs;
  if (!x || !y) throw internal(`${node.name} has an input and an output`);
  return { x, y, axis: axisAttribute(node) };
}

/** S(p, u) = p ∘ (u − Σ p u): what the Jacobian of a softmax, which is symmetric, does to u. */
export function softmaxJacobian(g: GraphBuilder, p: Value, u: Value, axis: number): Value {
  const centred = sub(g, u, reduceSum(g, mul(g, p, u), [axis]));
  return composite(mul(g, p, centred), {
    inputs: [p, u],
    // d S = a − p Σ a with a = p ∘ u̇ + ṗ ∘ (u − Σ p u), since Σ ṗ = 0
    pushforward: (h, [dp, du]) => {
      const a = sum(h, scaled(h, du, p), scaled(h, dp, centred));
      return linear(a, (v) => sub(h, v, mul(h, p, reduceSum(h, v, [axis]))));
    },
  });
}

/** The parts of a layer normalisation that its derivatives share: x̂ = (x − mean) r and r = 1/√(var + ε). */
function normalised(g: GraphBuilder, node: Node): { x: Value; gamma: Value; hat: Value; r: Value } {
  const [x, gamma] = node.inputs;
  const [, mean, r] = node.outputs;
  if (!x || !gamma || !mean || !r) throw internal(`${node.name} is a layer normalisation with its statistics`);
  return { x, gamma, hat: mul(g, sub(g, x, mean), r), r };
}

/**
 * P(u) = r ∘ (u − mean u − x̂ mean(u x̂)): the Jacobian of x ↦ x̂, which is symmetric.
 * Its own derivative, with ẋ̂ = P(ẋ) and ṙ = −r² mean(x̂ ẋ):
 * d P(u) = P(u̇) − r mean(x̂ ẋ) P(u) − r (ẋ̂ mean(u x̂) + x̂ mean(u ẋ̂)).
 */
function layerNormJacobian(g: GraphBuilder, u: Value, x: Value, hat: Value, r: Value): Value {
  const along = reduceMean(g, mul(g, u, hat), [-1]);
  const projected = mul(g, sub(g, sub(g, u, reduceMean(g, u, [-1])), mul(g, hat, along)), r);
  return composite(projected, {
    inputs: [u, x],
    pushforward: (h, [du, dx]) => {
      if (!dx) return linear(du, (d) => layerNormJacobian(h, d, x, hat, r));
      const dHat = layerNormJacobian(h, dx, x, hat, r);
      const rRate = mul(h, reduceMean(h, mul(h, dx, hat), [-1]), r);
      const scale = mul(h, along, r);
      const onHat = sum(
        h,
        linear(du, (d) => mul(h, d, hat)),
        mul(h, u, dHat),
      )!;
      const inside = du
        ? sub(h, sub(h, du, reduceMean(h, du, [-1])), mul(h, hat, reduceMean(h, onHat, [-1])))
        : undefined;
      const fromInput = inside ? mul(h, inside, r) : mul(h, hat, mul(h, reduceMean(h, onHat, [-1]), r));
      const turned = add(h, mul(h, projected, rRate), mul(h, dHat, scale));
      return inside ? sub(h, fromInput, turned) : difference(h, undefined, add(h, fromInput, turned));
    },
  });
}

export const normaliseRules: RuleFamily<'Softmax' | 'LogSoftmax' | 'LayerNormalization'> = {
  // p = softmax x:  ṗ = S(p, ẋ);  x̄ = S(p, p̄)
  Softmax: {
    pullback: ({ g, node, cotangents: [dy] }) => {
      const { y, axis } = single(node);
      return [linear(dy, (d) => softmaxJacobian(g, y, d, axis))];
    },
    pushforward: ({ g, node, tangents: [dx] }) => {
      const { y, axis } = single(node);
      return [linear(dx, (d) => softmaxJacobian(g, y, d, axis))];
    },
  },
  // y = log softmax x, p = eʸ:  ẏ = ẋ − Σ p ẋ;  x̄ = ȳ − p Σ ȳ
  LogSoftmax: {
    pullback: ({ g, node, cotangents: [dy] }) => {
      const { y, axis } = single(node);
      return [linear(dy, (d) => sub(g, d, mul(g, exp(g, y), reduceSum(g, d, [axis]))))];
    },
    pushforward: ({ g, node, tangents: [dx] }) => {
      const { y, axis } = single(node);
      return [linear(dx, (d) => sub(g, d, reduceSum(g, mul(g, exp(g, y), d), [axis])))];
    },
  },
  // y = γ x̂ + β:  ẏ = γ P(ẋ) + γ̇ x̂ + β̇;  x̄ = P(γ ȳ), γ̄ = Σ ȳ x̂, β̄ = Σ ȳ
  LayerNormalization: {
    pullback: ({ g, node, cotangents: [dy, dMean, dR], wanted }) => {
      if (dMean ?? dR) throw internal(`${node.name}: the statistics are for derivatives alone`);
      if (!dy) return [];
      const { x, gamma, hat, r } = normalised(g, node);
      return [
        wanted[0] ? layerNormJacobian(g, mul(g, dy, gamma), x, hat, r) : undefined,
        wanted[1] ? unbroadcast(g, mul(g, dy, hat), gamma.shape) : undefined,
        wanted[2] ? unbroadcast(g, dy, gamma.shape) : undefined,
      ];
    },
    // mean' = mean ẋ;  r' = −r² mean(x̂ ẋ)
    pushforward: ({ g, node, tangents: [dx, dGamma, dBeta] }) => {
      const { x, gamma, hat, r } = normalised(g, node);
      const moved: Derivative = linear(dx, (d) => mul(g, layerNormJacobian(g, d, x, hat, r), gamma));
      return [
        spread(g, sum(g, moved, scaled(g, dGamma, hat), dBeta), x),
        linear(dx, (d) => reduceMean(g, d, [-1])),
        linear(dx, (d) => mul(g, mul(g, reduceMean(g, mul(g, d, hat), [-1]), mul(g, r, r)), -1)),
      ];
    },
  },
};
