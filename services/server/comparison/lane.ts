import type { Predictions } from './predictions.js';

/** What a batch of the same samples is to every version. */
export interface SampleBatch {
  /** Samples in it. */
  readonly size: number;
  /** The class of each sample; absent where there are no labels. */
  readonly labels?: ArrayLike<number>;
}

/** What a version answered to one request: the classes of its samples, or a text. */
export type LaneAnswer = ClassAnswer | TextAnswer;

/** What a classifier answered. */
export interface ClassAnswer {
  /** [samples, classes]. */
  readonly logits: Float32Array;
  readonly classes: number;
  /** [sample][stage]: the tokens that each stage left. */
  readonly tokensKept: readonly (readonly number[])[];
  /** Of each sample. */
  readonly flops: readonly number[];
  /** Nats that each sample was answered at; absent where the version has no budget. */
  readonly budget?: readonly number[] | undefined;
}

/** What a language model answered to a request of one prompt. */
export interface TextAnswer {
  /** Generated, in their order. */
  readonly tokens: readonly number[];
  /** Milliseconds from the request to its first token. */
  readonly firstTokenMs: number;
  /** Milliseconds a token after the first, their mean; undefined of a text of one token. */
  readonly nextTokenMs: number | undefined;
  /** Tokens of the prompt that each stage left. */
  readonly tokensKept: readonly number[];
  /** Of prompt and text. */
  readonly flops: number;
  /** Nats that it was asked with; undefined where the version has no budget. */
  readonly budget: number | undefined;
}

/** One version, however it is reached: a session of this process, a server's own inference, a client of a server. */
export interface Lane<Batch extends SampleBatch> {
  readonly version: number;
  /** How it was pruned; `unpruned`. */
  readonly policy: string;
  /** Answers one request. Its latency is the time that this takes. */
  answer(batch: Batch, signal: AbortSignal): Promise<LaneAnswer>;
  /** Of a language model: what it foretells of the tokens that follow the prompt in its text, behind the text's own. Nobody waits for it. */
  predictions?(batch: Batch, signal: AbortSignal): Predictions;
}

/** Where the samples come from: they are read before they are measured with, so that reading costs nobody's time. */
export interface SampleSource<Batch extends SampleBatch> {
  /** How many there are. */
  readonly size: number;
  readonly labelled: boolean;
  /** These samples as one request's batch. */
  read(samples: readonly number[]): Promise<Batch>;
}

/** A meter of the whole machine. */
export interface ComparisonMeter {
  readonly name: string;
  /** Joules from some time to this moment, known a little later; undefined where they cannot be read. */
  joules(): Promise<number | undefined>;
}

export interface ComparisonSettings {
  /** Samples of a request. */
  readonly batch: number;
  /** Requests under way at a time. */
  readonly concurrency: number;
  /** Requests to each version that are not counted. */
  readonly warmup: number;
  /** Of the order of the versions and of the resampling. */
  readonly seed: number;
  /** Of the intervals, such as 0.95. */
  readonly confidence: number;
}
