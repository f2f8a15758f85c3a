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
  /** Called when the run that serves the job begins; again if it has to begin anew. Not for a job that is dropped before. */
  readonly started?: (() => void) | undefined;
}

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
}

/** Decides when, and with which others, a job of one version runs. */
export interface Scheduler {
  /** Throws RESOURCE_EXHAUSTED (the queue is full), DEADLINE_EXCEEDED, CANCELLED, and what a session's run throws. */
  submit(job: InferenceJob): Promise<InferenceResult>;
  /** Jobs that wait or run. */
  readonly pending: number;
  /** How long the oldest job that has not begun has waited, 0 where none waits: what a queue says of load before its answers do. */
  readonly oldestWaitingMs: number;
}

/** First in, first out, one call a run: the session's own queue does it. */
export class FifoScheduler implements Scheduler {
  #pending = 0;
  /** When the jobs that have not begun came, oldest first. */
  readonly #waiting = new Set<{ readonly since: number }>();

  constructor(private readonly session: Session) {}

  get pending(): number {
    return this.#pending;
  }

  get oldestWaitingMs(): number {
    const [oldest] = this.#waiting;
    return oldest === undefined ? 0 : performance.now() - oldest.since;
  }

  async submit({ feeds, batch, outputs, signal, started }: InferenceJob): Promise<InferenceResult> {
    this.#pending++;
    const submitted = performance.now();
    const place = { since: submitted };
    this.#waiting.add(place);
    const begun = (): void => {
      this.#waiting.delete(place);
      started?.();
    };
    try {
      // The feeds are the request's own, nobody reads them afterwards.
      const begin = () => {
        begun();
        return feeds;
      };
      const run = await this.session.runLate(begin, { outputs, signal, transfer: true });
      const startedAt = submitted + run.queuedMs;
      const execution = { startedAt, endedAt: startedAt + run.durationMs, samples: batch };
      return { outputs: run.outputs, runBatch: batch, queueMs: run.queuedMs, computeMs: run.durationMs, execution };
    } finally {
      this.#waiting.delete(place);
      this.#pending--;
    }
  }
}
