import type { Session } from '../../../libs/runtime/runtime.js';
import type { TensorValue } from '../../../libs/runtime/tensor.js';

/** One call, preprocessed and checked: everything that is left to do is to run it. */
export interface InferenceJob {
  readonly feeds: Readonly<Record<string, TensorValue>>;
  /** Samples in it. */
  readonly batch: number;
  readonly outputs: readonly string[];
  /** Drops the job if it has not begun. */
  readonly signal: AbortSignal;
  /** 1 is served first; absent: the middle one. */
  readonly priority?: number | undefined;
  /** On the clock of performance.now(): a job that has not begun by then is refused. */
  readonly deadline?: number | undefined;
}

export interface InferenceResult {
  readonly outputs: Readonly<Record<string, TensorValue>>;
  /** Samples of the run, those of other jobs included. */
  readonly runBatch: number;
  readonly queueMs: number;
  readonly computeMs: number;
}

/** Decides when, and with which others, a job of one version runs. */
export interface Scheduler {
  /** Throws RESOURCE_EXHAUSTED (the queue is full), DEADLINE_EXCEEDED, CANCELLED, and what a session's run throws. */
  submit(job: InferenceJob): Promise<InferenceResult>;
  /** Jobs that wait or run. */
  readonly pending: number;
}

/** First in, first out, one call a run: the session's own queue does it. */
export class FifoScheduler implements Scheduler {
  #pending = 0;

  constructor(private readonly session: Session) {}

  get pending(): number {
    return this.#pending;
  }

  async submit({ feeds, batch, outputs, signal }: InferenceJob): Promise<InferenceResult> {
    this.#pending++;
    try {
      // The feeds are the request's own, nobody reads them afterwards.
      const run = await this.session.runTimed(feeds, { outputs, signal, transfer: true });
      return { outputs: run.outputs, runBatch: batch, queueMs: run.queuedMs, computeMs: run.durationMs };
    } finally {
      this.#pending--;
    }
  }
}
