import { internal } from '../errors/error.js';
import { GraphBuilder, type FloatType } from '../onnx/builder.js';
import type { Dim, Value } from '../onnx/ir.js';
import { familyOf } from './architectures/index.js';
import { readSpec, type ClassifierSpec } from './architectures/transformer.js';
import type { Checkpoint } from './checkpoint.js';
import { gateInput, unitsOf, type GateInput, type GateKind } from './gates.js';
import { canonical } from './layers/canonical.js';
import { fused } from './layers/fused.js';
import type { AtSeam } from './tokens.js';
import { visionTransformer } from './vision-transformer.js';
import { checkpointWeights, type Weights } from './weights.js';

/** The two ways in which a network is lowered. */
export const lowerings = { canonical, fused };

export interface ClassifierOptions {
  readonly lowering: keyof typeof lowerings;
  /** A number, or a symbol for a batch that is known at run time (the default, 'B'). */
  readonly batch?: Dim;
  readonly gates?: readonly GateKind[];
  readonly atSeams?: ReadonlyMap<number, AtSeam>;
  /** In place of the checkpoint's own: tensors that pruning made smaller, or inputs for training. */
  readonly weights?: (g: GraphBuilder) => Weights;
  readonly float?: FloatType;
  readonly name?: string;
}

/** A classifier as a graph that is still open: derivatives or outputs may be added before it is built. */
export interface Classifier {
  readonly g: GraphBuilder;
  readonly spec: ClassifierSpec;
  /** Input `pixel_values` [batch, C, H, W]. */
  readonly pixelValues: Value;
  /** Inputs named by their kind, [batch, Σ units]. */
  readonly gates: ReadonlyMap<GateKind, GateInput>;
  /** The residual stream after the attention of each block, rows [rows, D]. */
  readonly seams: readonly Value[];
  /** [batch, classes]; not yet named. */
  readonly logits: Value;
}

/** The shape of a checkpoint's network. Throws INVALID_ARGUMENT for an architecture that is not known, or a config that does not fit. */
export function specOf(checkpoint: Checkpoint, weights: Weights = checkpointWeights(checkpoint)): ClassifierSpec {
  return readSpec(checkpoint, familyOf(checkpoint), weights);
}

/**
 * The network of a checkpoint, lowered. Throws INVALID_ARGUMENT naming the file, the field or the tensor that does not fit.
 */
export function buildClassifier(checkpoint: Checkpoint, options: ClassifierOptions): Classifier {
  const { batch = 'B', lowering, gates: kinds = [], atSeams = new Map<number, AtSeam>() } = options;
  if (kinds.length > 0 && atSeams.size > 0) throw internal('gates are of the unpruned model, whose tokens stay in place');
  const g = new GraphBuilder(options.name ?? `${checkpoint.architecture}-${lowering}`, options.float);
  const weights = options.weights?.(g) ?? checkpointWeights(checkpoint);
  const spec = specOf(checkpoint, weights);
  const { channels, height, width } = spec.image;
  const pixelValues = g.input('pixel_values', g.float, [batch, channels, height, width]);
  const gates = new Map(kinds.map((kind) => [kind, gateInput(g, kind, batch, unitsOf(spec, kind))]));
  const network = visionTransformer(g, pixelValues, { spec, weights, layers: lowerings[lowering], gates, atSeams });
  return { g, spec, pixelValues, gates, ...network };
}
