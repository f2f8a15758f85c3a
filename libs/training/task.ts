/** What the trainer asks of a model and its data: the same loop, optimiser and states serve images and text. */
import type { Graph } from '../onnx/ir.js';
import type { TensorValue } from '../runtime/tensor.js';
import type { Parameters, WeightShape } from './parameters.js';

export interface TrainingBatch {
  /** The feeds of every shard, beside the weights. */
  readonly shards: readonly Readonly<Record<string, TensorValue>>[];
  /** What the loss is a sum over: its mean is by this. */
  readonly count: number;
  /** Of a weight [1, rows, width], the rows that the step uses, where those are not all: the graph takes and answers for them alone. */
  readonly rows?: ReadonlyMap<string, readonly number[]>;
}

export interface TrainingTask {
  /** Digest of the data. */
  readonly digest: string;
  readonly weights: readonly WeightShape[];
  /** Fills the parameters with the initial weights. */
  initialise(parameters: Parameters): void;
  /** What a step of a phase costs, up to a constant. */
  cost(phase: number): number;
  /** The batch of a step: by the step alone, so that a run that is resumed sees what the uninterrupted one would have. */
  batch(step: number): Promise<TrainingBatch>;
  /**
   * The graph of one shard in a phase: the batch's feeds and the weights in; `loss` [1, 1], summed, and the gradient by every weight
   * (`gradientOf`) out.
   */
  graph(phase: number): Graph;
}

/** The name of the output that is a weight's gradient. */
export const gradientOf = (weight: string): string => `gradient:${weight}`;
