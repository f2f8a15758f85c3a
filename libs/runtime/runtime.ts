/** ONNX Runtime sessions in worker threads: a run blocks the thread it is on, so none is on the main one. */
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { HeartwoodError, internal, invalid } from '../errors/error.js';
import type { SessionSettings, WorkerReply, WorkerRequest } from './messages.js';
import { checkTensor, packTensors, type TensorInfo, type TensorValue } from './tensor.js';
import { WorkerThread } from './worker-thread.js';

export interface SessionOptions {
  /** The runtime's own graph optimisations. Default 'all'. */
  readonly optimization?: 'disabled' | 'basic' | 'extended' | 'all';
  /** Copies weights into the layout of the kernels: faster products, about twice the memory. Default true. */
  readonly prepacking?: boolean;
  /** Execution providers, first choice first. Default ['cpu']. */
  readonly providers?: readonly string[];
  /** File prefix of a Chrome trace that is written when the session is disposed. */
  readonly profile?: string;
}

export interface RunOptions {
  /** The outputs wanted; the others are not fetched. Default: all. */
  readonly outputs?: readonly string[];
  /** Drops the run with CANCELLED if it has not begun; a run that has begun goes to its end. */
  readonly signal?: AbortSignal;
  /** Moves the buffers of the feeds to the worker instead of copying them: the caller's arrays are empty afterwards. */
  readonly transfer?: boolean;
  /** Called when the worker takes the run up; not for one that is dropped before. */
  readonly started?: () => void;
}

export interface TimedRun {
  readonly outputs: Record<string, TensorValue>;
  /** Of the session's run alone, in the worker. */
  readonly durationMs: number;
  /** From the call until the worker took it up. */
  readonly queuedMs: number;
}

export interface Session {
  readonly inputs: readonly TensorInfo[];
  readonly outputs: readonly TensorInfo[];
  /**
   * Runs the model. Feeds must stay as they are until the promise settles.
   * Throws INVALID_ARGUMENT (a feed that is missing, unknown, or of the wrong type or shape), CANCELLED, UNAVAILABLE
   * (the worker died), FAILED_PRECONDITION (disposed), INTERNAL (the runtime failed).
   */
  run(feeds: Readonly<Record<string, TensorValue>>, options?: RunOptions): Promise<Record<string, TensorValue>>;
  /** As `run`, with what it took. */
  runTimed(feeds: Readonly<Record<string, TensorValue>>, options?: RunOptions): Promise<TimedRun>;
  /** Frees the session after the runs that are queued already. */
  dispose(): Promise<void>;
}

export interface Runtime {
  /**
   * Loads a model, from a file (whose external data is found beside it) or from bytes, onto the worker with the fewest
   * sessions. Throws NOT_FOUND (no such file), INVALID_ARGUMENT naming the file (the runtime cannot load it).
   */
  load(model: string | Uint8Array, options?: SessionOptions): Promise<Session>;
  /** Cancels the runs that have not begun, waits for those in progress, ends the workers. */
  close(): Promise<void>;
}

export interface RuntimeOptions {
  /** Worker threads; sessions on different workers run side by side. Default 1. */
  readonly workers?: number;
  /** Threads of one run. Default: the machine's cores over the workers. */
  readonly threads?: number;
  /** Whether threads that wait for work spin for a while: quicker alone, wasteful where cores are shared. Default false. */
  readonly spinning?: boolean;
}

/** Starts a pool of workers (lazily: a thread is made when a session first needs it). */
export function createRuntime(options: RuntimeOptions = {}): Runtime {
  const workers = count('workers', options.workers ?? 1);
  const threads = count('threads', options.threads ?? Math.max(1, Math.floor(availableParallelism() / workers)));
  return new WorkerRuntime(workers, threads, options.spinning ?? false);
}

function count(name: string, value: number): number {
  if (!Number.isInteger(value) || value < 1) throw invalid(`${name} is ${value}, expected an integer of at least 1`);
  return value;
}

type RuntimeThread = WorkerThread<WorkerRequest, WorkerReply>;

/** A worker and the number of sessions pinned to it. */
interface Slot {
  readonly thread: RuntimeThread;
  sessions: number;
}

class WorkerRuntime implements Runtime {
  readonly #slots: (Slot | undefined)[];
  readonly #threads: number;
  readonly #spinning: boolean;
  #nextSession = 1;
  #closed = false;

  constructor(workers: number, threads: number, spinning: boolean) {
    this.#slots = Array.from({ length: workers }, () => undefined);
    this.#threads = threads;
    this.#spinning = spinning;
  }

  async load(model: string | Uint8Array, options: SessionOptions = {}): Promise<Session> {
    if (this.#closed) throw new HeartwoodError('FAILED_PRECONDITION', 'the runtime is closed');
    const label = typeof model === 'string' ? model : 'model bytes';
    if (typeof model === 'string' && !existsSync(model))
      throw new HeartwoodError('NOT_FOUND', `${model}: no such file`);
    const settings: SessionSettings = {
      optimization: options.optimization ?? 'all',
      prepacking: options.prepacking ?? true,
      providers: options.providers ?? ['cpu'],
      profile: options.profile,
      threads: this.#threads,
      spinning: this.#spinning,
    };
    const slot = this.#leastLoaded();
    const session = this.#nextSession++;
    slot.sessions++;
    try {
      const { reply } = await slot.thread.submit(() => ({
        request: { kind: 'load', session, model, options: settings },
        transfer: [],
      }));
      if (reply.kind === 'failed')
        throw invalid(`${label}: not a model that the runtime can load: ${oneLine(reply.message)}`);
      if (reply.kind !== 'loaded') throw unexpected(reply);
      return new PinnedSession(slot, session, reply.inputs, reply.outputs);
    } catch (thrown) {
      slot.sessions--;
      throw thrown;
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all(this.#slots.flatMap((slot) => (slot ? [slot.thread.close()] : [])));
  }

  /** The living worker with the fewest sessions; an empty slot, or that of a worker that died, gets a new thread. */
  #leastLoaded(): Slot {
    let best = 0;
    let fewest = Infinity;
    for (const [index, slot] of this.#slots.entries()) {
      const sessions = slot?.thread.alive ? slot.sessions : 0;
      if (sessions < fewest) [best, fewest] = [index, sessions];
    }
    const present = this.#slots[best];
    if (present?.thread.alive) return present;
    const thread: RuntimeThread = new WorkerThread(
      new URL('./worker.js', import.meta.url),
      { kind: 'close' },
      'runtime',
    );
    const started = { thread, sessions: 0 };
    this.#slots[best] = started;
    return started;
  }
}

class PinnedSession implements Session {
  #disposed: Promise<void> | undefined;

  constructor(
    private readonly slot: Slot,
    private readonly id: number,
    readonly inputs: readonly TensorInfo[],
    readonly outputs: readonly TensorInfo[],
  ) {}

  async run(feeds: Readonly<Record<string, TensorValue>>, options?: RunOptions): Promise<Record<string, TensorValue>> {
    return (await this.runTimed(feeds, options)).outputs;
  }

  async runTimed(feeds: Readonly<Record<string, TensorValue>>, options: RunOptions = {}): Promise<TimedRun> {
    if (this.#disposed) throw new HeartwoodError('FAILED_PRECONDITION', 'the session is disposed');
    this.#check(feeds, options.outputs);
    const prepare = () => {
      options.started?.();
      const { packed, transfer } = packTensors(feeds, options.transfer ?? false);
      return { request: { kind: 'run', session: this.id, feeds: packed, outputs: options.outputs } as const, transfer };
    };
    const { reply, queuedMs } = await this.slot.thread.submit(prepare, options.signal);
    if (reply.kind === 'failed') throw internal(`the run failed: ${oneLine(reply.message)}`);
    if (reply.kind !== 'result') throw unexpected(reply);
    return { outputs: reply.outputs, durationMs: reply.durationMs, queuedMs };
  }

  dispose(): Promise<void> {
    this.#disposed ??= this.#release();
    return this.#disposed;
  }

  async #release(): Promise<void> {
    this.slot.sessions--;
    // With its worker gone the session is gone too.
    if (!this.slot.thread.alive) return;
    await this.slot.thread
      .submit(() => ({ request: { kind: 'dispose', session: this.id }, transfer: [] }))
      .catch(() => undefined);
  }

  #check(feeds: Readonly<Record<string, TensorValue>>, outputs: readonly string[] | undefined): void {
    const symbols = new Map<string, number>();
    for (const info of this.inputs) {
      const value = feeds[info.name];
      if (value === undefined) throw invalid(`input ${info.name} is missing`);
      checkTensor(info, value, symbols);
    }
    for (const name of Object.keys(feeds)) {
      if (!this.inputs.some((info) => info.name === name)) {
        throw invalid(`unknown input ${name}, expected ${this.inputs.map((info) => info.name).join(', ')}`);
      }
    }
    for (const name of outputs ?? []) {
      if (!this.outputs.some((info) => info.name === name)) {
        throw invalid(`unknown output ${name}, expected ${this.outputs.map((info) => info.name).join(', ')}`);
      }
    }
  }
}

function unexpected(reply: WorkerReply): HeartwoodError {
  return internal(`the runtime worker answered ${reply.kind} out of turn`);
}

function oneLine(message: string): string {
  return message.replace(/\s+/g, ' ').trim();
}
