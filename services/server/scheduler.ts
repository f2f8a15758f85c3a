import type { Session } from '../../libs/runtime/runtime.js';
import type { TensorValue } from '../../libs/runtime/tensor.js';

/** One request, preprocessed and checked: everything that is left to do is to run it. */
export interface InferenceJob {
  readonly feeds: Readonly<Record<string, TensorValue>>;
  /** Samples in it. */
  readonly batch: number;
  readonly outputs: readonly string[];
  /** Drops the job if it has not begun. */
  readonly signal: AbortSignal;
}

export interface InferenceResult {
  readonly outputs: Readonly<Record<string, TensorValue>>;
  readonly queueMs: number;
  readonly computeMs: number;
}

/** Decides when, and with which others, a job of one version runs. */
export interface Scheduler {
  /** Throws CANCELLED, and what a session's run throws. */
  submit(job: InferenceJob): Promise<InferenceResult>;
  /** Jobs that wait or run. */
  readonly pending: number;
}

/** First in, first out, one request a run: the session's own queue does it. */
export class FifoScheduler implements Scheduler {
  #pending = 0;

  constructor(private readonly session: Session) {}

  get pending(): number {
    return this.#pending;
  }

  async submit({ feeds, outputs, signal }: InferenceJob): Promise<InferenceResult> {
    this.#pending++;
    try {
      // The feeds are the request's own, nobody reads them afterwards.
      const run = await this.session.runTimed(feeds, { outputs, signal, transfer: true });
      return { outputs: run.outputs, queueMs: run.queuedMs, computeMs: run.durationMs };
    } finally {
      this.#pending--;
    }
  }
}
