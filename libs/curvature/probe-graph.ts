import { GATE_KINDS, type GateKind } from '../models/gates.js';
import type { Graph } from '../onnx/ir.js';
import { cast } from '../onnx/ops/index.js';
import type { SessionOptions } from '../runtime/runtime.js';
import type { Probing } from './estimators.js';
import { losses, type Loss } from './losses.js';
import { movedUnits, type MatrixMove } from './matrix-moves.js';
import { targetsInput, type Network } from './network.js';

/**
 * How graphs of many unrolled derivatives are loaded. Pre-packing would copy every weight once for each direction; the runtime's
 * own optimisations find nothing in them that makes a run faster, and take seconds over thousands of nodes.
 */
export const probeSession: SessionOptions = { optimization: 'disabled', prepacking: false };

/** What curvature is taken of: gates that multiply units, and `bits`, the gates that move matrices to their quantised form. */
export const UNIT_KINDS = [...GATE_KINDS, 'bits'] as const;
export type UnitKind = (typeof UNIT_KINDS)[number];

/** Names of a probe graph's inputs and outputs. */
export const names = {
  direction: (probe: number) => `direction_${probe}`,
  gradient: (kind: GateKind) => `${kind}_gradient`,
  product: (kind: UnitKind, probe: number) => `${kind}_product_${probe}`,
};

export interface ProbeGraphOptions {
  /** More than one only for directions over logits, whose pullback reaches all gates at once. */
  readonly kinds: readonly GateKind[];
  readonly loss: Loss;
  readonly space: Probing['space'];
  /** Directions of one run; they share the forward part, and over gates the gradient. */
  readonly unrolled: number;
  readonly batch: number;
  /** Under `bits`; for directions over logits alone. */
  readonly moves?: readonly MatrixMove[];
}

/**
 * The graph that one run of an estimator is. Inputs: those of the network, the gates [batch, Σ units] (all ones), `targets` (the class of
 * each row) for a loss with labels, and `direction_k`: [batch, gates], or the logits' shape in int8 (0, 1 and −1: for text they are many).
 * Outputs by kind `…_product_k` [batch, Σ units] (`bits_product_k` [batch, moves]) and, where it is not zero by itself, `…_gradient`.
 */
export function buildProbeGraph(network: Network, options: ProbeGraphOptions): Graph {
  const { kinds, loss, space, unrolled, batch, moves = [] } = options;
  const { g, gates, logits } = network.build({ batch, gates: kinds, name: `${loss}-by-${space}` });
  const moved = moves.length > 0 ? movedUnits(g, moves, batch) : undefined;
  const wrt = [...kinds.map((kind) => gates.get(kind)!.value), ...(moved?.outputs ?? [])];
  const derivatives = losses[loss];
  const targets = derivatives.needsLabels ? g.input(targetsInput, 'int64', logits.shape.slice(0, -1)) : undefined;
  const answer = { logits, targets };
  const shape = space === 'logits' ? logits.shape : wrt[0]!.shape;
  const type = space === 'logits' ? 'int8' : g.float;
  const directions = Array.from({ length: unrolled }, (_, k) =>
    cast(g, g.input(names.direction(k), type, shape), g.float),
  );
  const products =
    space === 'logits' && derivatives.sketch
      ? derivatives.sketch(g, answer, wrt, directions)
      : derivatives.products(
          g,
          answer,
          wrt,
          directions.map((direction) => [direction]),
        );
  const gradients = derivatives.gradient(g, answer, wrt);
  const outputs = gradients ? kinds.map((kind, i) => g.named(names.gradient(kind), gradients[i]!)) : [];
  // The runtime works its way to one output after another: by direction, so that what one has pulled back is freed before the next.
  products.forEach((parts, k) => {
    kinds.forEach((kind, i) => outputs.push(g.named(names.product(kind, k), parts[i]!)));
    if (moved) outputs.push(g.named(names.product('bits', k), moved.derivatives(parts.slice(kinds.length))));
  });
  return g.build(outputs);
}
