import type { Checkpoint } from '../models/checkpoint.js';
import { buildClassifier } from '../models/classifier.js';
import type { GateKind } from '../models/gates.js';
import type { Graph, Value } from '../onnx/ir.js';
import type { SessionOptions } from '../runtime/runtime.js';
import type { Probing } from './estimators.js';
import { losses, type Loss } from './losses.js';

/**
 * How graphs of many unrolled derivatives are loaded. Pre-packing would copy every weight once for each direction; the runtime's
 * own optimisations find nothing in them that makes a run faster, and take seconds over thousands of nodes.
 */
export const probeSession: SessionOptions = { optimization: 'disabled', prepacking: false };

/** Names of a probe graph's inputs and outputs. */
export const names = {
  pixels: 'pixel_values',
  targets: 'targets',
  direction: (probe: number) => `direction_${probe}`,
  gradient: (kind: GateKind) => `${kind}_gradient`,
  product: (kind: GateKind, probe: number) => `${kind}_product_${probe}`,
};

export interface ProbeGraphOptions {
  /** More than one only for directions over classes, whose pullback reaches all gates at once. */
  readonly kinds: readonly GateKind[];
  readonly loss: Loss;
  readonly space: Probing['space'];
  /** Directions of one run; they share the forward part, and over gates the gradient. */
  readonly unrolled: number;
  readonly batch: number;
}

/**
 * The graph that one run of an estimator is. Inputs: `pixel_values`, the gates [batch, Σ units] (all ones), `targets`
 * [batch, classes] for a loss with labels, and `direction_k` [batch, classes or gates]; outputs by kind `…_product_k`
 * [batch, Σ units] and, where it is not zero by itself, `…_gradient`.
 */
export function buildProbeGraph(checkpoint: Checkpoint, options: ProbeGraphOptions): Graph {
  const { kinds, loss, space, unrolled, batch } = options;
  const { g, gates, logits, spec } = buildClassifier(checkpoint, {
    lowering: 'canonical',
    batch,
    gates: kinds,
    name: `${loss}-by-${space}`,
  });
  const wrt = kinds.map((kind) => gates.get(kind)!.value);
  const derivatives = losses[loss];
  const targets = derivatives.needsLabels ? g.input(names.targets, g.float, [batch, spec.classes]) : undefined;
  const answer = { logits, targets };
  const width = space === 'classes' ? spec.classes : Number(wrt[0]!.shape[1]);
  const directions = Array.from({ length: unrolled }, (_, k) => g.input(names.direction(k), g.float, [batch, width]));
  const products =
    space === 'classes' && derivatives.sketch
      ? derivatives.sketch(g, answer, wrt, directions)
      : derivatives.products(
          g,
          answer,
          wrt,
          directions.map((direction) => [direction]),
        );
  const outputs: Value[] = [];
  const gradients = derivatives.gradient(g, answer, wrt);
  kinds.forEach((kind, i) => {
    if (gradients) outputs.push(g.named(names.gradient(kind), gradients[i]!));
    products.forEach((parts, k) => outputs.push(g.named(names.product(kind, k), parts[i]!)));
  });
  return g.build(outputs);
}
