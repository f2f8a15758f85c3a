import type { GraphBuilder } from '../onnx/builder.js';
import type { Node, Value } from '../onnx/ir.js';
import type { DifferentiableOp } from './operators.js';

/** A derivative that is zero everywhere is undefined, so that nothing is built for it. */
export type Derivative = Value | undefined;

/**
 * Reverse mode: from the cotangents of a node's outputs the cotangents of those inputs that are `wanted`.
 * Cotangents have the shapes of their values.
 */
export type PullbackRule = (context: {
  readonly g: GraphBuilder;
  readonly node: Node;
  readonly cotangents: readonly Derivative[];
  readonly wanted: readonly boolean[];
}) => readonly Derivative[];

/** Forward mode: from the tangents of a node's inputs the tangents of its outputs. */
export type PushforwardRule = (context: {
  readonly g: GraphBuilder;
  readonly node: Node;
  readonly tangents: readonly Derivative[];
}) => readonly Derivative[];

/** Both directions of one operator. */
export interface Rule {
  readonly pullback: PullbackRule;
  readonly pushforward: PushforwardRule;
}

/** The rules of one family of operators; the whole table is their union. */
export type RuleFamily<Op extends DifferentiableOp> = { readonly [K in Op]: Rule };
