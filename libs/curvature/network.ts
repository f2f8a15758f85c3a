import type { BlockShape } from '../models/architectures/transformer.js';
import type { Checkpoint } from '../models/checkpoint.js';
import type { GateInput, GateKind } from '../models/gates.js';
import type { Weights } from '../models/weights.js';
import type { GraphBuilder } from '../onnx/builder.js';
import type { Value } from '../onnx/ir.js';
import type { TensorValue } from '../runtime/tensor.js';

/**
 * A model and its data as curvature sees them, whatever the task: samples go in, each is answered by some rows of logits (distributions over the
 * classes), and gates multiply its units. A classifier answers with one row; a language model with one a position, over its vocabulary.
 */
export interface Network {
  /** Float32 weights. */
  readonly checkpoint: Checkpoint;
  readonly blocks: readonly BlockShape[];
  readonly hidden: number;
  /** Tokens of a sample at each block: the patches and special tokens of an image, the positions of a window. */
  readonly tokens: number;
  /** The shape of a sample's logits: [classes], or [rows, classes]. */
  readonly logits: readonly number[];
  /** The network with gates, canonically lowered, still open. */
  build(options: NetworkOptions): NetworkGraph;
  /**
   * Samples of the data batch by batch, the next one read while the caller works. Throws INVALID_ARGUMENT for samples that do not fit the model, or
   * that lack a label which is asked for; CANCELLED when the signal fires.
   */
  batches(indices: readonly number[], options: BatchOptions): AsyncGenerator<SampleBatch>;
}

export interface NetworkOptions {
  readonly batch: number;
  readonly gates: readonly GateKind[];
  /** The graph's name. */
  readonly name: string;
  /** In place of the checkpoint's own. */
  readonly weights?: (g: GraphBuilder) => Weights;
}

export interface NetworkGraph {
  readonly g: GraphBuilder;
  /** Inputs named by their kind, [batch, Σ units]. */
  readonly gates: ReadonlyMap<GateKind, GateInput>;
  /** [batch, classes], or [batch, rows, classes]. */
  readonly logits: Value;
}

export interface BatchOptions {
  readonly batch: number;
  /** Whether the feeds hold `targets`. */
  readonly labels: boolean;
  readonly signal?: AbortSignal | undefined;
}

/** Samples for one run. Graphs have a fixed batch: a last batch that is shorter is filled up with its last sample. */
export interface SampleBatch {
  /** Position of the first among all indices. */
  readonly start: number;
  /** Indices of those that count. */
  readonly indices: readonly number[];
  /** By input of the network; with labels also `targets`, the class of each row, int64 (−1: none). */
  readonly feeds: Readonly<Record<string, TensorValue>>;
  /** Rows that have a part in the loss, over the samples that count. */
  readonly rows: number;
}

/** What the rows' classes are called among the inputs of a graph with labels. */
export const targetsInput = 'targets';

/** Logits of a sample: how many numbers a direction over them has. */
export function outputsOf({ logits }: Pick<Network, 'logits'>): number {
  return logits.reduce((product, dim) => product * dim, 1);
}
