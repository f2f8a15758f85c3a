import { setMaxListeners } from 'node:events';
import { HeartwoodError, internal } from '../../../libs/errors/error.js';
import { longestTimer } from '../../settings/milliseconds.js';
import { bytesOf, shareKey } from './batch.js';
import { defaultPriority, type InferenceJob, type InferenceResult } from './scheduler.js';

/** A job that waits, and what becomes of it. */
export interface Waiting {
  readonly job: InferenceJob;
  readonly priority: number;
  /** In the order of arrival. */
  readonly sequence: number;
  /** On the clock of performance.now(). */
  readonly since: number;
  readonly key: string;
  readonly bytes: number;
  /** Whether it has been in a run that failed: it is tried once more, alone. */
  retried: boolean;
  readonly resolve: (result: InferenceResult) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Jobs by priority, then by arrival. One whose caller has gone, or whose deadline has passed, leaves the queue at that moment and
 * is told so; it costs nothing any more.
 */
export class JobQueue {
  readonly #jobs: Waiting[] = [];
  readonly #release = new Map<Waiting, () => void>();
  #sequence = 0;
  #bytes = 0;

  get length(): number {
    return this.#jobs.length;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** In the order of their turns. */
  get jobs(): readonly Waiting[] {
    return this.#jobs;
  }

  /** Enters a new job; the promise is its result. `left` is called when it leaves without having run. */
  enter(job: InferenceJob, left: () => void): Promise<InferenceResult> {
    if (job.signal.aborted) return Promise.reject(cancelled());
    return new Promise((resolve, reject) => {
      const since = performance.now();
      if (job.deadline !== undefined && job.deadline <= since) return reject(late());
      const entry: Waiting = {
        job,
        priority: job.priority ?? defaultPriority,
        sequence: this.#sequence++,
        since,
        key: shareKey(job),
        bytes: bytesOf(job),
        retried: false,
        resolve,
        reject: (error: unknown) => {
          left();
          reject(error instanceof Error ? error : internal(String(error)));
        },
      };
      this.put(entry);
    });
  }

  /** Puts a job into its place: a new one, or one that has to run again. */
  put(entry: Waiting): void {
    const { signal, deadline } = entry.job;
    if (signal.aborted) return entry.reject(cancelled());
    let at = this.#jobs.length;
    while (at > 0 && comesBefore(entry, this.#jobs[at - 1]!)) at--;
    this.#jobs.splice(at, 0, entry);
    this.#bytes += entry.bytes;

    const leave = (error: HeartwoodError): void => {
      this.take([entry]);
      entry.reject(error);
    };
    const abort = (): void => leave(cancelled());
    // A stream's requests share its signal, each with a listener while it waits; they are no leak.
    setMaxListeners(0, signal);
    signal.addEventListener('abort', abort, { once: true });
    const timer = deadline === undefined ? undefined : timerUntil(deadline, () => leave(late()));
    this.#release.set(entry, () => {
      signal.removeEventListener('abort', abort);
      clearTimeout(timer);
    });
  }

  /** Takes jobs out, for a run. */
  take(entries: readonly Waiting[]): void {
    for (const entry of entries) {
      const index = this.#jobs.indexOf(entry);
      if (index < 0) continue;
      this.#jobs.splice(index, 1);
      this.#bytes -= entry.bytes;
      this.#release.get(entry)?.();
      this.#release.delete(entry);
    }
  }

  /** Turns the late ones out, without waiting for their timers: a busy event loop must not make a late job run. */
  expire(): void {
    const now = performance.now();
    for (const entry of this.#jobs.filter(({ job }) => job.deadline !== undefined && job.deadline <= now)) {
      this.take([entry]);
      entry.reject(late());
    }
  }
}

/** None for what is further off than a timer can be set: `expire` turns such a job out, should it wait for so long. */
export function timerUntil(deadline: number, fire: () => void): NodeJS.Timeout | undefined {
  const wait = deadline - performance.now();
  return wait > longestTimer ? undefined : setTimeout(fire, Math.max(0, wait));
}

function comesBefore(a: Waiting, b: Waiting): boolean {
  return a.priority < b.priority || (a.priority === b.priority && a.sequence < b.sequence);
}

function cancelled(): HeartwoodError {
  return new HeartwoodError('CANCELLED', 'the request was cancelled before it began');
}

function late(): HeartwoodError {
  return new HeartwoodError('DEADLINE_EXCEEDED', 'the request timed out before it began');
}
