import { setMaxListeners } from 'node:events';
import { Worker } from 'node:worker_threads';
import { HeartwoodError, messageOf } from '../errors/error.js';

interface Job<Request, Reply> {
  /** Makes the request when the job's turn comes, so that what it copies is copied only then. */
  readonly prepare: () => Prepared<Request>;
  readonly resolve: (answer: Answer<Reply>) => void;
  readonly reject: (error: unknown) => void;
  readonly queuedAt: number;
  readonly started: () => void;
}

/** A request and the buffers that move with it. */
export interface Prepared<Request> {
  readonly request: Request;
  readonly transfer: ArrayBuffer[];
}

/** A worker's reply and how long its request waited for its turn. */
export interface Answer<Reply> {
  readonly reply: Reply;
  readonly queuedMs: number;
}

/**
 * One worker thread and its first-in-first-out queue. Exactly one request is with the worker at a time, so a request that
 * is aborted before its turn costs nothing. A run is never interrupted: terminating a thread in the middle of one aborts
 * the whole process.
 */
export class WorkerThread<Request, Reply> {
  readonly #worker: Worker;
  readonly #queue: Job<Request, Reply>[] = [];
  readonly #exited: Promise<void>;
  #current: (Job<Request, Reply> & { startedAt: number }) | undefined;
  #lost: HeartwoodError | undefined;
  #closing = false;

  /**
   * @param entry the thread's module: it answers every message with one message, and lets go of its port after `farewell`
   * @param farewell the last request
   * @param label what an error calls the worker
   */
  constructor(
    entry: URL,
    readonly farewell: Request,
    readonly label: string,
  ) {
    this.#worker = new Worker(entry);
    this.#worker.unref();
    this.#worker.on('message', (reply: Reply) => this.#finish(reply));
    this.#worker.on('error', (error) => this.#lose(`the ${label} worker failed: ${messageOf(error)}`));
    this.#exited = new Promise((resolve) => {
      this.#worker.on('exit', (code) => {
        this.#lose(`the ${label} worker exited with code ${code}`);
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
  submit(prepare: () => Prepared<Request>, signal?: AbortSignal): Promise<Answer<Reply>> {
    return new Promise((resolve, reject) => {
      if (this.#closing) return reject(new HeartwoodError('UNAVAILABLE', `the ${this.label} worker is closed`));
      if (this.#lost) return reject(this.#lost);
      if (signal?.aborted) return reject(cancelled());
      const abort = (): void => {
        const index = this.#queue.indexOf(job);
        if (index < 0) return;
        this.#queue.splice(index, 1);
        reject(cancelled());
      };
      const started = (): void => signal?.removeEventListener('abort', abort);
      const job: Job<Request, Reply> = { prepare, resolve, reject, queuedAt: performance.now(), started };
      // One signal stops every image of a request, each with a listener until its turn; they are no leak.
      if (signal) setMaxListeners(0, signal);
      signal?.addEventListener('abort', abort, { once: true });
      this.#queue.push(job);
      this.#next();
    });
  }

  /** Cancels what waits, lets the request under way end, says farewell and waits for the thread's end. */
  async close(): Promise<void> {
    if (this.#closing) return this.#exited;
    for (const job of this.#queue.splice(0)) {
      job.started();
      job.reject(new HeartwoodError('CANCELLED', 'closed before the request began'));
    }
    if (!this.#lost) {
      const farewell = this.submit(() => ({ request: this.farewell, transfer: [] }));
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

  #finish(reply: Reply): void {
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
  return new HeartwoodError('CANCELLED', 'the request was cancelled before it began');
}
