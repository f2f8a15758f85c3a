import { Worker } from 'node:worker_threads';
import { HeartwoodError, messageOf } from '../errors/error.js';
import type { WorkerReply, WorkerRequest } from './messages.js';

interface Job {
  /** Makes the request when the job's turn comes, so that what it copies is copied only then. */
  readonly prepare: () => { request: WorkerRequest; transfer: ArrayBuffer[] };
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: unknown) => void;
  readonly queuedAt: number;
  readonly started: () => void;
}

/** A worker's reply and how long its request waited for its turn. */
export interface Answer {
  readonly reply: WorkerReply;
  readonly queuedMs: number;
}

/**
 * One worker thread and its first-in-first-out queue. Exactly one request is with the worker at a time, so a request that
 * is aborted before its turn costs nothing. A run is never interrupted: terminating a thread in the middle of one aborts
 * the whole process.
 */
export class WorkerThread {
  /** Sessions pinned to this worker. */
  sessions = 0;
  readonly #worker: Worker;
  readonly #queue: Job[] = [];
  readonly #exited: Promise<void>;
  #current: (Job & { startedAt: number }) | undefined;
  #lost: HeartwoodError | undefined;
  #closing = false;

  constructor(entry: URL) {
    this.#worker = new Worker(entry);
    this.#worker.unref();
    this.#worker.on('message', (reply: WorkerReply) => this.#finish(reply));
    this.#worker.on('error', (error) => this.#lose(`the runtime worker failed: ${messageOf(error)}`));
    this.#exited = new Promise((resolve) => {
      this.#worker.on('exit', (code) => {
        this.#lose(`the runtime worker exited with code ${code}`);
        resolve();
      });
    });
  }

  get alive(): boolean {
    return this.#lost === undefined && !this.#closing;
  }

  /** Runs under way and waiting. */
  get pending(): number {
    return this.#queue.length + (this.#current ? 1 : 0);
  }

  /**
   * Queues one request. Rejects with CANCELLED when `signal` aborts before the request's turn (it runs to its end once
   * begun), with UNAVAILABLE when the worker is gone.
   */
  submit(prepare: Job['prepare'], signal?: AbortSignal): Promise<Answer> {
    return new Promise((resolve, reject) => {
      if (this.#closing) return reject(new HeartwoodError('UNAVAILABLE', 'the runtime is closed'));
      if (this.#lost) return reject(this.#lost);
      if (signal?.aborted) return reject(cancelled());
      const abort = (): void => {
        const index = this.#queue.indexOf(job);
        if (index < 0) return;
        this.#queue.splice(index, 1);
        reject(cancelled());
      };
      const started = (): void => signal?.removeEventListener('abort', abort);
      const job: Job = { prepare, resolve, reject, queuedAt: performance.now(), started };
      signal?.addEventListener('abort', abort, { once: true });
      this.#queue.push(job);
      this.#next();
    });
  }

  /** Cancels what waits, lets the request under way end, disposes the worker's sessions and waits for the thread's end. */
  async close(): Promise<void> {
    if (this.#closing) return this.#exited;
    for (const job of this.#queue.splice(0)) {
      job.started();
      job.reject(new HeartwoodError('CANCELLED', 'the runtime was closed before the run began'));
    }
    if (!this.#lost) {
      const farewell = this.submit(() => ({ request: { kind: 'close' }, transfer: [] }));
      this.#closing = true;
      this.#worker.ref();
      await farewell.catch(() => undefined);
    }
    this.#closing = true;
    await this.#exited;
  }

  #next(): void {
    while (!this.#current && !this.#lost) {
      const job = this.#queue.shift();
      if (job === undefined) break;
      job.started();
      try {
        const { request, transfer } = job.prepare();
        this.#worker.postMessage(request, transfer);
        this.#current = { ...job, startedAt: performance.now() };
      } catch (thrown) {
        job.reject(thrown);
      }
    }
    // Only work keeps the process alive, an idle worker does not.
    if (this.#current || this.#closing) this.#worker.ref();
    else this.#worker.unref();
  }

  #finish(reply: WorkerReply): void {
    const job = this.#current;
    this.#current = undefined;
    this.#next();
    job?.resolve({ reply, queuedMs: job.startedAt - job.queuedAt });
  }

  #lose(reason: string): void {
    if (this.#lost) return;
    this.#lost = new HeartwoodError('UNAVAILABLE', reason);
    const jobs = [...(this.#current ? [this.#current] : []), ...this.#queue.splice(0)];
    this.#current = undefined;
    for (const job of jobs) {
      job.started();
      job.reject(this.#lost);
    }
  }
}

function cancelled(): HeartwoodError {
  return new HeartwoodError('CANCELLED', 'the run was cancelled before it began');
}
