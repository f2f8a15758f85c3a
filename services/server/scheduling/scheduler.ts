import type { TensorValue } from '../../../libs/runtime/tensor.js';

/** One call, preprocessed and checked: everything that is left to do is to run it. */
export interface InferenceJob {
  readonly feeds: Readonly<Record<string, TensorValue>>;
  /** Samples in it. */
  readonly batch: number;
  readonly outputs: readonly string[];
  /** Drops the job if it has not begun. */
  readonly signal: AbortSignal;
  /** 1 is served first; absent: {@link defaultPriority}. */
  readonly priority?: number | undefined;
  /** On the clock of performance.now(): a job that has not begun by then is refused. */
  readonly deadline?: number | undefined;
  /** Called when the run that serves the job begins; again if it has to begin anew. Not for a job that is dropped before. */
  readonly started?: (() => void) | undefined;
}

/** Of a job that names none. */
export const defaultPriority = 100;
/** After everything that somebody waits for. */
export const backgroundPriority = Number.MAX_SAFE_INTEGER;

/** One run of the model. The calls that it serves share the object, so that what it cost is counted once. */
export interface Execution {
  /** On the clock of performance.now(). */
  readonly startedAt: number;
  readonly endedAt: number;
  /** Of all its calls. */
  readonly samples: number;
}

export interface InferenceResult {
  readonly outputs: Readonly<Record<string, TensorValue>>;
  /** Samples of the run, those of other jobs included. */
  readonly runBatch: number;
  readonly queueMs: number;
  readonly computeMs: number;
  readonly execution: Execution;
  /**
   * Of the job: its share of what its execution took above idling. Known with the meter's next reading, so wait for it only where the
   * answer may wait; undefined where it was not metered. Absent where nothing is. Never rejects.
   */
  readonly joules?: Promise<number | undefined>;
}

/** A place in the queue, held from before a call is preprocessed. */
export interface Place {
  /**
   * Runs the job, once. Throws INVALID_ARGUMENT (feeds that do not fit the model), RESOURCE_EXHAUSTED (the bytes that wait are too many), DEADLINE_EXCEEDED and
   * CANCELLED (before it began), UNAVAILABLE (workers died of it, or of others, twice), INTERNAL (the runtime failed).
   */
  submit(job: InferenceJob): Promise<InferenceResult>;
  /** Gives the place up; nothing once the job has been submitted. */
  leave(): void;
}

/** Decides when, and with which others, a job of one version runs. */
export interface Scheduler {
  /** Throws RESOURCE_EXHAUSTED at once when the queue is full. */
  admit(): Place;
  /** As `admit` and the place's `submit`. */
  submit(job: InferenceJob): Promise<InferenceResult>;
  /** Calls that have a place or run. */
  readonly pending: number;
  /** Calls that have a place and have not begun. */
  readonly waiting: number;
  /** How long the oldest job that has not begun has waited, 0 where none waits: what a queue says of load before its answers do. */
  readonly oldestWaitingMs: number;
}
