import { internal } from '../errors/error.js';
import type { GraphBuilder } from '../onnx/builder.js';
import type { Value } from '../onnx/ir.js';
import { compositeOf } from './composite.js';
import { isDifferentiable } from './operators.js';
import { dependents } from './pullback.js';
import type { Derivative } from './rule.js';
import { rules } from './rules/index.js';

/**
 * Forward mode: appends to the graph the pushforward (Jacobian-vector product) of `outputs` along the tangents of some of its
 * values, and gives the tangents of `outputs`, undefined where an output does not depend on them. Pushed through a gradient this
 * is a Hessian-vector product (Pearlmutter 1994, Fast exact multiplication by the Hessian). Only what the outputs need is
 * visited, and composite expressions by their own rule.
 */
export function pushforward(
  g: GraphBuilder,
  tangents: ReadonlyMap<Value, Value>,
  outputs: readonly Value[],
): readonly Derivative[] {
  const dependent = dependents([...g.allNodes], tangents.keys());
  const known = new Map<Value, Derivative>(tangents);
  // An explicit stack: the path from a loss back to its inputs is longer than the call stack is deep.
  const stack = [...outputs];
  while (stack.length > 0) {
    const value = stack[stack.length - 1]!;
    if (known.has(value)) {
      stack.pop();
      continue;
    }
    if (!dependent.has(value)) {
      known.set(value, undefined);
      stack.pop();
      continue;
    }
    const whole = compositeOf(value);
    const node = g.producer(value);
    if (!node) throw internal(`${value.name} has no producer`);
    const inputs = whole?.inputs ?? node.inputs;
    const missing = inputs.filter((v): v is Value => v !== undefined && !known.has(v));
    if (missing.length > 0) {
      stack.push(...missing.reverse());
      continue;
    }
    stack.pop();
    const given = inputs.map((v) => v && known.get(v));
    if (whole) {
      known.set(value, given.some(Boolean) ? whole.pushforward(g, given) : undefined);
      continue;
    }
    if (!isDifferentiable(node)) {
      if (given.some(Boolean)) throw internal(`no derivative of ${node.domain}${node.op} (${node.name})`);
      known.set(value, undefined);
      continue;
    }
    const results = given.some(Boolean) ? rules[node.op].pushforward({ g, node, tangents: given }) : [];
    node.outputs.forEach((v, i) => {
      if (!known.has(v) && !compositeOf(v)) known.set(v, results[i]);
    });
    if (!known.has(value)) known.set(value, undefined);
  }
  return outputs.map((v) => known.get(v));
}
