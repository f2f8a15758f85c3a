import type { ErrorCode } from '../../../libs/errors/error.js';
import type { ServedVersion } from '../catalog/served-version.js';
import type { Execution } from '../scheduling/scheduler.js';
import type { EndEvent } from '../generation/event.js';
import type { Trace } from './trace.js';

export const phases = ['queue', 'preprocess', 'compute', 'postprocess', 'total'] as const;
export type Phase = (typeof phases)[number];

/** What a call's run through the model was. */
export interface InferenceRun {
  /** Samples of the call. */
  readonly batch: number;
  /** Samples of the run that it was part of, those of other calls included. */
  readonly runBatch: number;
  /** The run itself, the same object for all its calls. */
  readonly execution: Execution;
  /** Of a sample, at the entry. */
  readonly tokens: number;
  /** [sample][stage]. */
  readonly tokensKept: readonly (readonly number[])[];
  /** Of each sample. */
  readonly flops: readonly number[];
  /** Nats of each sample; undefined where the version has no budget. */
  readonly budget: readonly number[] | undefined;
}

/** What there is to know of a call that has ended. */
export interface InferenceRecord {
  /** Undefined when the call named no version that is served. */
  readonly version: ServedVersion | undefined;
  readonly outcome: 'OK' | ErrorCode;
  /** Milliseconds of each phase that the call reached. */
  readonly phases: Readonly<Partial<Record<Phase, number>>>;
  /** What its caller knows it by, where it said so. */
  readonly trace?: Trace | undefined;
  /** There when a classifier ran. */
  readonly run?: InferenceRun;
  /** There when a text came to its end. */
  readonly text?: EndEvent;
}

/** Told of every call: metrics, meters and controllers hang on it. */
export interface InferenceObserver {
  ended(record: InferenceRecord): void;
}
