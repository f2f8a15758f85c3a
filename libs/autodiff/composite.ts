import type { GraphBuilder } from '../onnx/builder.js';
import type { Value } from '../onnx/ir.js';
import type { Derivative } from './rule.js';

/**
 * An expression of several nodes that has a pushforward of its own. Differentiating a gradient node by node would build
 * each intermediate's tangent; a rule over the whole expression needs a third of the passes over memory.
 */
export interface Composite {
  readonly inputs: readonly Value[];
  readonly pushforward: (g: GraphBuilder, tangents: readonly Derivative[]) => Derivative;
}

const registry = new WeakMap<Value, Composite>();

/** Declares that `value` is the outcome of a composite expression. */
export function composite(value: Value, definition: Composite): Value {
  registry.set(value, definition);
  return value;
}

/** The composite whose outcome this value is, if any. */
export function compositeOf(value: Value): Composite | undefined {
  return registry.get(value);
}
