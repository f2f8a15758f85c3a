import { internal } from '../errors/error.js';
import type { GraphBuilder } from '../onnx/builder.js';
import type { Value } from '../onnx/ir.js';
import { mul, reduceSum, slice, softmax, sqrt, sub } from '../onnx/ops/index.js';
import { describe, fixed, sameShape } from '../onnx/shapes.js';
import { everywhere, zeros } from './algebra.js';
import { pullback } from './pullback.js';
import { pushforward } from './pushforward.js';
import type { Derivative } from './rule.js';
import { softmaxJacobian } from './rules/normalise.js';

/**
 * Second derivatives as graphs. Everything is appended to the graph that holds the forward part; probes are unrolled and share
 * the forward part and the gradient. A loss may have any shape, its elements are summed; logits are [..., classes], and what is
 * said of F and R holds for each distribution over the classes by itself. Results have the shapes of the values that they
 * belong to, with zeros where nothing depends on one.
 */

/** ∂ Σ loss / ∂ wrt, one for each. */
export function gradient(g: GraphBuilder, loss: Value, wrt: readonly Value[]): readonly Value[] {
  return filled(g, pullback(g, [loss], [everywhere(g, 1, loss)], wrt), wrt);
}

export interface HessianProducts {
  /** The gradient by each value. */
  readonly gradients: readonly Value[];
  /** By probe and value: its part of H v. */
  readonly products: readonly (readonly Value[])[];
}

/**
 * H v for the Hessian of Σ loss by all of `wrt` together, interactions included: the gradient's derivative along v (Pearlmutter 1994,
 * Fast exact multiplication by the Hessian). `probes[k][i]` is the direction of `wrt[i]` in probe k, undefined for zero.
 */
export function hessianVector(
  g: GraphBuilder,
  loss: Value,
  wrt: readonly Value[],
  probes: readonly (readonly Derivative[])[],
): HessianProducts {
  return pullbackHessianVector(g, [loss], [everywhere(g, 1, loss)], wrt, probes);
}

/**
 * As {@link hessianVector}, of a loss that is known by its derivatives: `cotangents` are ∂L/∂outputs, one for each, and may be made from
 * the outputs, whose own curvature is then their derivative. So a loss needs no node of its own where its derivative has a closed form.
 */
export function pullbackHessianVector(
  g: GraphBuilder,
  outputs: readonly Value[],
  cotangents: readonly Value[],
  wrt: readonly Value[],
  probes: readonly (readonly Derivative[])[],
): HessianProducts {
  const parts = pullback(g, outputs, cotangents, wrt);
  const depending = parts.filter((part): part is Value => part !== undefined);
  const products = probes.map((probe) => {
    const along = pushforward(g, directions(wrt, probe), depending);
    const byPart = new Map(depending.map((part, i) => [part, along[i]]));
    return filled(
      g,
      parts.map((part) => part && byPart.get(part)),
      wrt,
    );
  });
  return { gradients: filled(g, parts, wrt), products };
}

/**
 * JᵀFJ v, F = diag(p) − ppᵀ and J = ∂ logits / ∂ wrt: the Hessian of Σ KL(p ‖ softmax(logits)) where p is the answer at this very
 * point (the generalised Gauss-Newton of Schraudolph 2002). ż = J v by one pushforward, then one pullback of F ż. By probe and value.
 */
export function klCurvatureVector(
  g: GraphBuilder,
  logits: Value,
  wrt: readonly Value[],
  probes: readonly (readonly Derivative[])[],
): readonly (readonly Value[])[] {
  const p = softmax(g, logits);
  return probes.map((probe) => {
    const [dz] = pushforward(g, directions(wrt, probe), [logits]);
    if (!dz) return filled(g, [], wrt);
    // F ż = p ∘ ż − p (pᵀ ż)
    return filled(g, pullback(g, [logits], [softmaxJacobian(g, p, dz, logits.shape.length - 1)], wrt), wrt);
  });
}

/**
 * JᵀR r for signs r (each of the logits' shape), R = diag(√p) − p√pᵀ. Since F = RRᵀ, E[(JᵀR r)²] is the diagonal of JᵀFJ and
 * E[(JᵀR r)(JᵀR r)ᵀ] all of it: one pullback a probe. By probe and value.
 */
export function outputSketch(
  g: GraphBuilder,
  logits: Value,
  wrt: readonly Value[],
  signs: readonly Value[],
): readonly (readonly Value[])[] {
  const p = softmax(g, logits);
  const root = sqrt(g, p);
  return signs.map((r) => {
    if (!sameShape(r.shape, logits.shape)) {
      throw internal(`signs ${r.name} have shape ${describe(r.shape)}, the logits ${describe(logits.shape)}`);
    }
    // R r = √p ∘ r − p (√pᵀ r)
    const signed = mul(g, root, r);
    const cotangent = sub(g, signed, mul(g, p, reduceSum(g, signed, [-1])));
    return filled(g, pullback(g, [logits], [cotangent], wrt), wrt);
  });
}

/**
 * The columns of JᵀR, one a class: their squares sum to the diagonal of JᵀFJ for one distribution, with no error of sampling.
 * The number of classes has to be known. By class and value.
 */
export function exactSketch(g: GraphBuilder, logits: Value, wrt: readonly Value[]): readonly (readonly Value[])[] {
  const classes = fixed(logits.shape.at(-1), 'the number of classes');
  const p = softmax(g, logits);
  const root = sqrt(g, p);
  return Array.from({ length: classes }, (_, c) => {
    // R e_c = √p_c (e_c − p)
    const unit = g.constant(
      Array.from({ length: classes }, (_, i) => (i === c ? 1 : 0)),
      [classes],
    );
    const cotangent = mul(g, slice(g, root, -1, c, c + 1), sub(g, unit, p));
    return filled(g, pullback(g, [logits], [cotangent], wrt), wrt);
  });
}

function directions(wrt: readonly Value[], probe: readonly Derivative[]): Map<Value, Value> {
  const tangents = new Map<Value, Value>();
  if (probe.length !== wrt.length) throw internal(`a probe of ${probe.length} directions for ${wrt.length} values`);
  wrt.forEach((value, i) => {
    const direction = probe[i];
    if (!direction) return;
    if (!sameShape(direction.shape, value.shape)) {
      throw internal(
        `a direction of ${value.name} has shape ${describe(direction.shape)}, not ${describe(value.shape)}`,
      );
    }
    tangents.set(value, direction);
  });
  return tangents;
}

function filled(g: GraphBuilder, parts: readonly Derivative[], wrt: readonly Value[]): readonly Value[] {
  return wrt.map((value, i) => parts[i] ?? zeros(g, value));
}
