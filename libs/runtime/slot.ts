import { HeartwoodError, internal, messageOf } from '../errors/error.js';
import type { Isolation } from './carrier.js';
import type { ResidentBinding, ResidentSpec, SessionSettings, WorkerReply, WorkerRequest } from './messages.js';
import type { RelaySource } from './relay.js';
import type { TensorInfo } from './tensor.js';
import { type Answer, type Prepared, type SubmitOptions, WorkerQueue } from './worker-queue.js';

type RuntimeWorker = WorkerQueue<WorkerRequest, WorkerReply>;

/** What a worker is told of a session; it is told again when the worker is replaced. */
export interface SessionSource {
  readonly id: number;
  readonly model: string | Uint8Array;
  readonly settings: SessionSettings;
}

interface Held {
  readonly source: SessionSource;
  /** Told when the session is broken. */
  readonly onBroken: () => void;
  /** Workers in a row that died while they loaded it again. */
  losses: number;
  /** Whether the worker is at its load; a worker that dies then dies of it. */
  loading: boolean;
  /** Whether it has been loaded once, and is the slot's to bring back. */
  loaded: boolean;
  /** Why the session could not be loaded again, if so. */
  broken?: HeartwoodError;
}

export interface Loaded {
  readonly inputs: readonly TensorInfo[];
  readonly outputs: readonly TensorInfo[];
}

/** So many workers that die of one session's load are not killed by chance. */
const mostLosses = 3;

/** A worker has died; another has taken its place if there is anything for it to hold. */
export interface WorkerRestart {
  readonly worker: number;
  readonly reason: string;
  /** Sessions that are loaded again. */
  readonly sessions: number;
}

/**
 * A place for one worker and the sessions that are on it. When the worker dies another takes its place, loads the same sessions first
 * and goes on; what the dead one had under way or waiting fails with UNAVAILABLE, for the caller to try again. A session whose load
 * the runtime now refuses, or that some new workers in a row die of, is broken from then on: its owner is told, and the others live.
 */
export class Slot {
  readonly #held = new Map<number, Held>();
  #worker: RuntimeWorker | undefined;
  #epoch = 0;
  #closed = false;

  constructor(
    private readonly index: number,
    readonly isolation: Isolation,
    private readonly onRestart: (restart: WorkerRestart) => void,
    private readonly entry = new URL('./worker.js', import.meta.url),
    private readonly limitMs?: number,
  ) {}

  /** Workers that have died here: what was resident in an earlier one is lost. */
  get epoch(): number {
    return this.#epoch;
  }

  get sessions(): number {
    return this.#held.size;
  }

  /** Requests under way and waiting. */
  get pending(): number {
    return this.#worker?.pending ?? 0;
  }

  get pid(): number | undefined {
    return this.#worker?.pid;
  }

  /** Throws INVALID_ARGUMENT with the runtime's reason, UNAVAILABLE when the worker dies of it. */
  async load(source: SessionSource, onBroken: () => void = () => undefined): Promise<Loaded> {
    const held: Held = { source, onBroken, losses: 0, loading: false, loaded: false };
    this.#held.set(source.id, held);
    for (;;) {
      try {
        return await this.#load(held);
      } catch (thrown) {
        // The worker died of something else before it came to this one.
        if (isLoss(thrown) && !held.loading && !this.#closed) continue;
        this.#held.delete(source.id);
        throw thrown;
      }
    }
  }

  /** Throws UNAVAILABLE with the reason when the session could not be loaded again, and as WorkerQueue.submit. */
  submit(
    session: number,
    prepare: () => Prepared<WorkerRequest>,
    options: SubmitOptions,
  ): Promise<Answer<WorkerReply>> {
    const broken = this.#held.get(session)?.broken;
    return broken ? Promise.reject(broken) : this.#running().submit(prepare, options);
  }

  /** Why the session cannot be run here any more, if so. */
  broken(session: number): HeartwoodError | undefined {
    return this.#held.get(session)?.broken;
  }

  /** Makes resident tensors of a session. Throws as `submit`, and RESOURCE_EXHAUSTED when there is no memory for them. */
  async allocate(
    memory: number,
    session: number,
    tensors: ResidentSpec,
    bound: ResidentBinding,
    relay?: RelaySource,
  ): Promise<void> {
    const request = { kind: 'allocate', memory, session, tensors, bound, relay } as const;
    const { reply } = await this.submit(session, () => ({ request, transfer: [] }), {});
    if (reply.kind === 'failed')
      throw new HeartwoodError('RESOURCE_EXHAUSTED', `no memory for resident tensors: ${reply.message}`);
  }

  /** Frees resident tensors after what is queued. */
  async free(memory: number): Promise<void> {
    if (!this.#worker?.alive) return;
    await this.#worker.submit(() => ({ request: { kind: 'free', memory }, transfer: [] })).catch(() => undefined);
  }

  /** Frees a session after what is queued for it. */
  async release(session: number): Promise<void> {
    const held = this.#held.get(session);
    this.#held.delete(session);
    // With its worker gone the session is gone too.
    if (!held || held.broken || !this.#worker?.alive) return;
    await this.#worker.submit(() => ({ request: { kind: 'dispose', session }, transfer: [] })).catch(() => undefined);
  }

  /** @param graceMs what is under way gets as long; then a process is killed, and a thread left to it */
  async close(graceMs?: number): Promise<void> {
    this.#closed = true;
    await this.#worker?.close(graceMs);
  }

  async #load(held: Held): Promise<Loaded> {
    const { id, model, settings } = held.source;
    const request = { kind: 'load', session: id, model, options: settings } as const;
    const { reply } = await this.#running().submit(() => {
      held.loading = true;
      return { request, transfer: [] };
    });
    held.loading = false;
    held.losses = 0;
    held.loaded = reply.kind === 'loaded';
    if (reply.kind === 'failed') throw new HeartwoodError('INVALID_ARGUMENT', reply.message);
    if (reply.kind !== 'loaded') throw internal(`the runtime worker answered ${reply.kind} out of turn`);
    return reply;
  }

  #running(): RuntimeWorker {
    this.#worker ??= this.#start();
    return this.#worker;
  }

  #start(): RuntimeWorker {
    return new WorkerQueue({
      entry: this.entry,
      farewell: { kind: 'close' },
      withdrawal: { request: { kind: 'withdraw' }, isReply: ({ kind }) => kind === 'withdrawn' },
      label: 'runtime',
      isolation: this.isolation,
      limitMs: this.limitMs,
      onLost: (reason) => this.#replace(reason),
    });
  }

  /** The loads stand first in the new worker's queue, so that a run that comes next finds its session. */
  #replace(reason: string): void {
    this.#worker = undefined;
    this.#epoch++;
    if (this.#closed) return;
    const again: Held[] = [];
    for (const held of this.#held.values()) {
      if (!held.loaded || held.broken) continue;
      if (held.loading && ++held.losses >= mostLosses) breakSession(held, reason);
      else again.push(held);
      held.loading = false;
    }
    if (again.length > 0) this.#worker = this.#start();
    for (const held of again) {
      void this.#load(held).catch((thrown: unknown) => {
        if (!isLoss(thrown)) breakSession(held, messageOf(thrown), thrown);
      });
    }
    this.onRestart({ worker: this.index, reason, sessions: again.length });
  }
}

function isLoss(thrown: unknown): boolean {
  return thrown instanceof HeartwoodError && thrown.code === 'UNAVAILABLE';
}

function breakSession(held: Held, reason: string, cause?: unknown): void {
  held.broken = new HeartwoodError('UNAVAILABLE', `the session could not be loaded again: ${reason}`, { cause });
  held.onBroken();
}
