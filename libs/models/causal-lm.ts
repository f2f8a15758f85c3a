import { invalid } from '../errors/error.js';
import { GraphBuilder, type FloatType } from '../onnx/builder.js';
import type { Dim, Value } from '../onnx/ir.js';
import type { CausalSpec } from './architectures/gpt-neox.js';
import { readCausalSpec } from './architectures/index.js';
import { causalTransformer, type CausalNetwork } from './causal-transformer.js';
import type { Checkpoint } from './checkpoint.js';
import { lowerings } from './classifier.js';
import { gateInput, unitsOf, type GateInput, type GateKind } from './gates.js';
import { checkpointWeights, type Weights } from './weights.js';

export interface CausalLmOptions {
  readonly lowering: keyof typeof lowerings;
  /** Tokens of every sequence; a shorter one is filled up at its end, which no token before it sees. */
  readonly positions: number;
  /** A number, or a symbol for a batch that is known at run time (the default, 'B'). */
  readonly batch?: Dim;
  readonly gates?: readonly GateKind[];
  /** In place of the checkpoint's own: tensors that pruning made smaller, or inputs for training. */
  readonly weights?: (g: GraphBuilder) => Weights;
  readonly float?: FloatType;
  readonly name?: string;
}

/** A language model over whole sequences, as a graph that is still open: derivatives or outputs may be added before it is built. */
export interface CausalLm extends CausalNetwork {
  readonly g: GraphBuilder;
  readonly spec: CausalSpec;
  /** Input `input_ids`, int64 [batch, positions]. */
  readonly inputIds: Value;
  /** Inputs named by their kind, [batch, Σ units]; a token or a mask is a unit of each position. */
  readonly gates: ReadonlyMap<GateKind, GateInput>;
  readonly positions: number;
}

/** The shape of a checkpoint's network. Throws INVALID_ARGUMENT for an architecture that is not known, or a config that does not fit. */
export function causalSpecOf(checkpoint: Checkpoint, weights: Weights = checkpointWeights(checkpoint)): CausalSpec {
  return readCausalSpec(checkpoint, weights);
}

/**
 * The network of a checkpoint, lowered. Throws INVALID_ARGUMENT naming the file, the field or the tensor that does not fit, or when there are
 * more positions than the model's context.
 */
export function buildCausalLm(checkpoint: Checkpoint, options: CausalLmOptions): CausalLm {
  const { batch = 'B', lowering, positions, gates: kinds = [] } = options;
  const g = new GraphBuilder(options.name ?? `${checkpoint.architecture}-${lowering}`, options.float);
  const weights = options.weights?.(g) ?? checkpointWeights(checkpoint);
  const spec = causalSpecOf(checkpoint, weights);
  if (positions > spec.context) {
    throw invalid(`${checkpoint.directory}: ${positions} positions, expected at most its context of ${spec.context}`);
  }
  const inputIds = g.input('input_ids', 'int64', [batch, positions]);
  const shape = { blocks: spec.blocks, tokens: positions };
  const gates = new Map(kinds.map((kind) => [kind, gateInput(g, kind, batch, unitsOf(shape, kind))]));
  const network = causalTransformer(g, inputIds, { spec, weights, layers: lowerings[lowering], gates });
  return { g, spec, inputIds, gates, positions, ...network };
}
