import { internal } from '../errors/error.js';
import type { GraphBuilder } from '../onnx/builder.js';
import type { Node, Value } from '../onnx/ir.js';
import { describe, sameShape } from '../onnx/shapes.js';
import { sum } from './algebra.js';
import { isDifferentiable } from './operators.js';
import type { Derivative } from './rule.js';
import { rules } from './rules/index.js';

/**
 * Reverse mode: appends to the graph the pullback (vector-Jacobian product) of `outputs` with their cotangents, and gives the
 * cotangents of `wrt`, undefined where an output does not depend on it. Called again with other cotangents it shares the
 * forward part. After Griewank & Walther, Evaluating Derivatives, chapter 3.
 */
export function pullback(
  g: GraphBuilder,
  outputs: readonly Value[],
  cotangents: readonly Value[],
  wrt: readonly Value[],
): readonly Derivative[] {
  const accumulated = new Map<Value, Value>();
  const accumulate = (value: Value, cotangent: Derivative): void => {
    const total = sum(g, accumulated.get(value), cotangent);
    if (total) accumulated.set(value, total);
  };
  outputs.forEach((output, i) => {
    const cotangent = cotangents[i];
    if (!cotangent || !sameShape(cotangent.shape, output.shape)) {
      throw internal(`the cotangent of ${output.name} must have its shape ${describe(output.shape)}`);
    }
    accumulate(output, cotangent);
  });
  const nodes = [...g.allNodes];
  const dependent = dependents(nodes, wrt);
  for (let i = nodes.length - 1; i >= 0; i--) {
    const node = nodes[i]!;
    if (!node.outputs.some((v) => accumulated.has(v) && dependent.has(v))) continue;
    const wanted = node.inputs.map((v) => v !== undefined && dependent.has(v));
    if (!isDifferentiable(node)) throw internal(`no derivative of ${node.domain}${node.op} (${node.name})`);
    const received = node.outputs.map((v) => accumulated.get(v));
    const given = rules[node.op].pullback({ g, node, cotangents: received, wanted });
    node.inputs.forEach((v, j) => v && wanted[j] && accumulate(v, given[j]));
  }
  return wrt.map((v) => accumulated.get(v));
}

/**
 * All values that depend differentiably on `sources`, themselves included. What is not a float (a shape, an index, a condition)
 * does not move with its inputs: its derivative is zero, and so is that of what is made from it alone.
 */
export function dependents(nodes: readonly Node[], sources: Iterable<Value>): Set<Value> {
  const found = new Set<Value>(sources);
  for (const node of nodes) {
    if (!node.inputs.some((v) => v && found.has(v))) continue;
    for (const v of node.outputs) if (v.type === 'float32' || v.type === 'float64') found.add(v);
  }
  return found;
}
