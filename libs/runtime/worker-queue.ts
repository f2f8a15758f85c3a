import { setMaxListeners } from 'node:events';
import { HeartwoodError } from '../errors/error.js';
import { type Carrier, carriers, type Isolation } from './carrier.js';

interface Job<Request, Reply> {
  /** Makes the request when the job's turn comes, so that what it copies is copied only then. */
  readonly prepare: () => Prepared<Request>;
  readonly priority: () => number;
  readonly ahead: boolean;
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

export interface SubmitOptions {
  /**
   * Rejects with CANCELLED when it aborts before the request's turn, also where that was handed over ahead; a request that has begun runs to its
   * end.
   */
  readonly signal?: AbortSignal | undefined;
  /** Asked when a turn is given: the least goes first, and of equals the first that came. Default 0. */
  readonly priority?: (() => number) | undefined;
  /**
   * Whether it may be handed over while another request is under way, if nothing else waits: the worker then goes on to it without a pause. What
   * comes later waits for both. Default false.
   */
  readonly ahead?: boolean | undefined;
}

/** How a worker is told that nobody wants what it has not begun. */
export interface Withdrawal<Request, Reply> {
  /** The message that says so; it has no reply of its own. */
  readonly request: Request;
  /** Whether a reply is that of a request that was taken back. */
  isReply(reply: Reply): boolean;
}

export interface WorkerOptions<Request, Reply> {
  /** The worker's module: it answers every message with one message, and lets go of its port after `farewell`. */
  readonly entry: URL;
  /** The last request. */
  readonly farewell: Request;
  /** What an error calls the worker. */
  readonly label: string;
  readonly isolation?: Isolation;
  /** Whether a process's lines on stderr are dropped: for one that is expected to fail. Default false. */
  readonly quiet?: boolean;
  /** Milliseconds that a request may take, where the worker is a process: one that takes longer is killed. Default: any. */
  readonly limitMs?: number | undefined;
  /** How a request that was handed over ahead is taken back. Default: it is not, and runs. */
  readonly withdrawal?: Withdrawal<Request, Reply>;
  /** Told once, when the worker is gone without having been closed. */
  readonly onLost?: (reason: string) => void;
}

/**
 * One worker and the queue before it. One request is with the worker at a time, and at most one more that asked to be handed over ahead, so a
 * request that is aborted before its turn costs nothing. A run is never interrupted: terminating a thread in the middle of one aborts the whole process.
 */
export class WorkerQueue<Request, Reply> {
  readonly #carrier: Carrier<Request>;
  readonly #queue: Job<Request, Reply>[] = [];
  readonly #exited: Promise<void>;
  /** With the worker, in the order in which it answers. */
  readonly #given: Job<Request, Reply>[] = [];
  /** When the first of them began. */
  #startedAt = 0;
  #lost: HeartwoodError | undefined;
  #late: NodeJS.Timeout | undefined;
  #closing = false;

  constructor(private readonly options: WorkerOptions<Request, Reply>) {
    const { entry, label, isolation = 'thread', quiet = false } = options;
    let exited = (): void => undefined;
    this.#exited = new Promise((resolve) => (exited = resolve));
    const events = {
      message: (reply: Reply) => this.#finish(reply),
      lost: (reason: string) => this.#lose(`the ${label} worker ${reason}`),
      exited,
    };
    this.#carrier = carriers[isolation]<Request, Reply>(entry, events, quiet);
  }

  get alive(): boolean {
    return this.#lost === undefined && !this.#closing;
  }

  /** Requests under way and waiting. */
  get pending(): number {
    return this.#queue.length + this.#given.length;
  }

  /** The worker's process; undefined where it is a thread of this one. */
  get pid(): number | undefined {
    return this.#carrier.pid;
  }

  /**
   * Queues one request. Rejects with CANCELLED (see `signal`), with UNAVAILABLE when the worker is gone, and with what `prepare`
   * throws.
   */
  submit(
    prepare: () => Prepared<Request>,
    { signal, priority = first, ahead = false }: SubmitOptions = {},
  ): Promise<Answer<Reply>> {
    return new Promise((resolve, reject) => {
      if (this.#closing) {
        return reject(new HeartwoodError('UNAVAILABLE', `the ${this.options.label} worker is closed`));
      }
      if (this.#lost) return reject(this.#lost);
      if (signal?.aborted) return reject(cancelled());
      const abort = (): void => {
        const index = this.#queue.indexOf(job);
        if (index < 0) return this.#withdraw();
        this.#queue.splice(index, 1);
        reject(cancelled());
      };
      const started = (): void => signal?.removeEventListener('abort', abort);
      const queuedAt = performance.now();
      const job: Job<Request, Reply> = { prepare, priority, ahead, resolve, reject, queuedAt, started };
      // One signal stops every image of a request, each with a listener until its turn; they are no leak.
      if (signal) setMaxListeners(0, signal);
      signal?.addEventListener('abort', abort, { once: true });
      this.#queue.push(job);
      this.#next();
    });
  }

  /**
   * Cancels what waits, lets the request under way end, says farewell and waits for the worker's end: for `graceMs` at most, then a
   * process is killed, and a thread left to its run, which nothing can end.
   */
  async close(graceMs?: number): Promise<void> {
    const closed = this.#close();
    if (graceMs === undefined) return closed;
    let late: NodeJS.Timeout | undefined;
    const over = new Promise<void>((resolve) => (late = setTimeout(resolve, graceMs)));
    await Promise.race([closed, over.then(() => this.#abandon())]);
    clearTimeout(late);
  }

  #abandon(): Promise<void> | void {
    this.#lose(`the ${this.options.label} worker was still at work when it was closed`);
    if (this.#carrier.kill === undefined) return this.#carrier.unref();
    this.#carrier.kill();
    return this.#exited;
  }

  async #close(): Promise<void> {
    if (this.#closing) return this.#exited;
    for (const job of this.#queue.splice(0)) {
      job.started();
      job.reject(new HeartwoodError('CANCELLED', 'closed before the request began'));
    }
    if (!this.#lost) {
      const farewell = this.submit(() => ({ request: this.options.farewell, transfer: [] }));
      this.#closing = true;
      this.#carrier.ref();
      await farewell.catch(() => undefined);
    }
    this.#closing = true;
    await this.#exited;
  }

  #next(): void {
    while (!this.#lost && (this.#given.length === 0 || this.#goesAhead())) {
      const job = this.#take();
      if (job === undefined) break;
      try {
        const { request, transfer } = job.prepare();
        this.#carrier.post(request, transfer);
        this.#given.push(job);
        if (this.#given.length === 1) this.#begin();
      } catch (thrown) {
        job.started();
        job.reject(thrown);
      }
    }
    // Only work keeps the process alive, an idle worker does not.
    if (this.#given.length > 0 || this.#closing) this.#carrier.ref();
    else this.#carrier.unref();
  }

  #goesAhead(): boolean {
    return this.#given.length === 1 && this.#queue.length === 1 && this.#queue[0]!.ahead;
  }

  /** The first of those that were given is under way. */
  #begin(): void {
    this.#given[0]!.started();
    this.#startedAt = performance.now();
    this.#watch();
  }

  /** What was handed over ahead: its answer says whether it had begun. */
  #withdraw(): void {
    const { withdrawal } = this.options;
    if (withdrawal) this.#carrier.post(withdrawal.request, []);
  }

  /** A thread cannot be ended in the middle of a run, and is left to it. */
  #watch(): void {
    const { limitMs, label } = this.options;
    if (limitMs === undefined || this.#carrier.kill === undefined) return;
    this.#late = setTimeout(() => {
      this.#lose(`the ${label} worker took longer than ${limitMs} ms over one request and was ended`);
      this.#carrier.kill?.();
    }, limitMs);
  }

  #take(): Job<Request, Reply> | undefined {
    if (this.#queue.length < 2) return this.#queue.shift();
    let best = 0;
    let least = Infinity;
    // Few wait here: a scheduler has one request in it for each of its versions.
    for (const [index, { priority }] of this.#queue.entries()) {
      const value = priority();
      if (value < least) [best, least] = [index, value];
    }
    return this.#queue.splice(best, 1)[0];
  }

  #finish(reply: Reply): void {
    clearTimeout(this.#late);
    const job = this.#given.shift();
    const queuedMs = job ? this.#startedAt - job.queuedAt : 0;
    if (this.#given.length > 0) this.#begin();
    this.#next();
    if (this.options.withdrawal?.isReply(reply)) job?.reject(cancelled());
    else job?.resolve({ reply, queuedMs });
  }

  #lose(reason: string): void {
    clearTimeout(this.#late);
    if (this.#lost) return;
    this.#lost = new HeartwoodError('UNAVAILABLE', reason);
    const jobs = [...this.#given.splice(0), ...this.#queue.splice(0)];
    if (!this.#closing) this.options.onLost?.(reason);
    for (const job of jobs) {
      job.started();
      job.reject(this.#lost);
    }
  }
}

function first(): number {
  return 0;
}

function cancelled(): HeartwoodError {
  return new HeartwoodError('CANCELLED', 'the request was cancelled before it began');
}
