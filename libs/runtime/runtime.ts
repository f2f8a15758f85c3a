/** ONNX Runtime sessions in workers: a run blocks the thread it is on, so none is on the main one. */
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { HeartwoodError, invalid, messageOf } from '../errors/error.js';
import type { Isolation } from './carrier.js';
import type { OutputTensor, ResidentBinding, ResidentSpec, RowCopy, SessionSettings } from './messages.js';
import { oneLine } from './one-line.js';
import type { RelaySource } from './relay.js';
import { PinnedSession } from './pinned-session.js';
import { type ProviderName, providers } from './providers/index.js';
import type { ResidentMemory, ResidentView } from './resident.js';
import { type Loaded, Slot, type WorkerRestart } from './slot.js';
import type { TensorInfo, TensorValue } from './tensor.js';
import { TrialSession } from './trial-session.js';

export interface SessionOptions {
  /** The runtime's own graph optimisations. Default 'all'. */
  readonly optimization?: 'disabled' | 'basic' | 'extended' | 'all';
  /** Copies weights into the layout of the kernels: faster products, about twice the memory. Default true. */
  readonly prepacking?: boolean;
  /** What runs it. Default: the runtime's. */
  readonly provider?: ProviderName;
  /** Whether its runs write into tensors that they were fed with; not every provider can. Default false. */
  readonly inPlace?: boolean;
  /** Threads of a run, on which the last bits of products depend. Default: the runtime's. */
  readonly threads?: number;
  /** Whether the threads of its runs wait busily for work. Default as the runtime's. */
  readonly spinning?: boolean;
  /** File prefix of a Chrome trace that is written when the session is disposed. */
  readonly profile?: string;
  /** Workers that hold the session, each with its own copy of the weights, so that as many runs go side by side. Default 1. */
  readonly instances?: number;
}

/** What a run is fed with, by input; views are of the run's `memory`. */
export type Feeds = Readonly<Record<string, TensorValue | ResidentView>>;

/**
 * What outputs are written into, by output. The buffer of a `data` is moved to the worker and comes back in the result (in a worker
 * process, which nothing moves to, the result has its own); what is written into a view is no part of the result.
 */
export type Into = Readonly<Record<string, OutputTensor | ResidentView>>;

export interface RunOptions {
  /** The outputs wanted; the others are not fetched. Default: all. Not together with `into`. */
  readonly outputs?: readonly string[];
  /** Outputs written in place; the others are not fetched. */
  readonly into?: Into;
  /** Whose worker the run is for; views and copies are of it. */
  readonly memory?: ResidentMemory;
  /** Rows of what is bound to `memory`: those inputs and outputs are no part of the feeds, nor of `into`, which has to be there. */
  readonly rows?: { readonly first: number; readonly count: number };
  /** What the relay of `memory` is told of the run: it feeds its inputs, and its answer takes the outputs' place. */
  readonly relay?: unknown;
  /** Of rows of `memory`, made one after the other before the run. */
  readonly copies?: readonly RowCopy[];
  /** Drops the run with CANCELLED if it has not begun; a run that has begun goes to its end. */
  readonly signal?: AbortSignal;
  /** Moves the buffers of the feeds to the worker instead of copying them: the caller's arrays are empty afterwards. */
  readonly transfer?: boolean;
  /** Asked when a worker is free: the least goes first, whichever session it is of. Default 0. */
  readonly priority?: () => number;
}

/** When a run is made, and for which memory. */
export interface Turn extends Pick<RunOptions, 'signal' | 'priority' | 'memory'> {
  /**
   * Whether it may be handed to the worker while another run is there, if nobody else waits: the worker then goes on without a pause. What comes
   * later waits for both. Default false.
   */
  readonly ahead?: boolean;
}

/** What a run comes to when its turn has come. */
export interface LateRun extends Pick<RunOptions, 'outputs' | 'into' | 'rows' | 'relay' | 'copies' | 'transfer'> {
  readonly feeds: Feeds;
}

export interface TimedRun {
  readonly outputs: Record<string, TensorValue>;
  /** What the relay said of it, where it had one. */
  readonly told?: unknown;
  /** Of the session's run alone, in the worker. */
  readonly durationMs: number;
  /** From the call until the worker took it up. */
  readonly queuedMs: number;
}

export interface Session {
  readonly inputs: readonly TensorInfo[];
  readonly outputs: readonly TensorInfo[];
  /** Runs that can go side by side. */
  readonly instances: number;
  /** What runs it now: the CPU in place of the one that was asked for, where that could not. */
  readonly provider: ProviderName;
  /**
   * Runs the model. Feeds must stay as they are until the promise settles.
   * Throws INVALID_ARGUMENT (a feed that is missing, unknown, or of the wrong type or shape), CANCELLED, UNAVAILABLE
   * (the worker died; another takes its place, so that the run may be tried again, but for what was resident in it), FAILED_PRECONDITION
   * (disposed), INTERNAL (the runtime failed).
   */
  run(feeds: Feeds, options?: RunOptions): Promise<Record<string, TensorValue>>;
  /** As `run`, with what it took. */
  runTimed(feeds: Feeds, options?: RunOptions): Promise<TimedRun>;
  /** As `runTimed`, of a run that is made when a worker is free for it; what `make` throws is thrown, and nothing is run. */
  runLate(make: () => LateRun, options?: Turn): Promise<TimedRun>;
  /**
   * Makes tensors that stay in one of the session's workers until they are freed or the session is disposed of; the first axis are rows.
   * @param bound inputs and outputs that are such tensors in every run with `rows`: nothing of them has to be said again
   * @param relay what stands between the runs that have a message for it
   * Throws INVALID_ARGUMENT, RESOURCE_EXHAUSTED (no memory), UNAVAILABLE.
   */
  allocate(tensors: ResidentSpec, bound?: ResidentBinding, relay?: RelaySource): Promise<ResidentMemory>;
  /** Throws INVALID_ARGUMENT, naming it, when a feed or an output does not fit the model. */
  check(feeds: Feeds, outputs?: readonly string[], into?: Into): void;
  /** Settles, with the reason, if its workers died and none could load it again: it is of no use any more. */
  readonly broken: Promise<HeartwoodError>;
  /** Frees the session after the runs that are queued already. */
  dispose(): Promise<void>;
}

export interface Runtime {
  /**
   * Loads a model, from a file (whose external data is found beside it) or from bytes, onto the worker with the fewest
   * sessions. Throws NOT_FOUND (no such file), INVALID_ARGUMENT naming the file (the runtime cannot load it).
   */
  load(model: string | Uint8Array, options?: SessionOptions): Promise<Session>;
  /** What runs the sessions that name no provider. */
  readonly provider: ProviderName;
  /** Threads of a run, unless a session has its own number. */
  readonly threads: number;
  /** The workers' processes, by worker; none where they are threads. */
  processes(): ReadonlyMap<number, number>;
  /**
   * Cancels the runs that have not begun, waits for those in progress (`graceMs` at most: then a worker process is killed, and a thread left
   * behind, which ends with this process), ends the workers.
   */
  close(graceMs?: number): Promise<void>;
}

export interface RuntimeOptions {
  /** Worker threads; sessions on different workers run side by side. Default 1. */
  readonly workers?: number;
  /** Threads of one run. Default: the machine's cores over the workers. */
  readonly threads?: number;
  /** Whether threads that wait for work spin for a while: quicker alone, wasteful where cores are shared. Default false. */
  readonly spinning?: boolean;
  /** What a worker runs in; carrier.ts says which faults need a process. Default 'thread'. */
  readonly isolation?: Isolation;
  /**
   * Milliseconds that one load or run may take, where workers are processes: one that takes longer ends with its worker, which is
   * replaced, and is UNAVAILABLE. Threads cannot be ended in the middle of a run. Default: any.
   */
  readonly runLimitMs?: number;
  /** What runs the sessions that name no provider. Default 'cpu'. */
  readonly provider?: ProviderName;
  /** Whether a session that its provider cannot load or run is refused, in place of falling back to the CPU. Default false. */
  readonly providerRequired?: boolean;
  /** Told of every session that fell back to the CPU. */
  readonly onFallback?: (fallback: ProviderFallback) => void;
  /** Told of every worker that died and was replaced. */
  readonly onRestart?: (restart: WorkerRestart) => void;
}

/** Where a provider failed: at a graph that it is not used for, at loading one, at its first run, or at that run's answer, which is not the CPU's. */
export const fallbackPhases = ['graph', 'load', 'run', 'answer'] as const;

const refusals: Readonly<Record<(typeof fallbackPhases)[number], string>> = {
  graph: 'is not used for it',
  load: 'cannot load it',
  run: 'cannot run it',
  answer: 'answers otherwise',
};

/** A session that runs on the CPU in place of the provider that was asked for. */
export interface ProviderFallback {
  readonly provider: ProviderName;
  readonly at: (typeof fallbackPhases)[number];
  /** The model's file, or that it was bytes. */
  readonly model: string;
  readonly reason: string;
}

/** Starts a pool of workers (lazily: a thread is made when a session first needs it). */
export function createRuntime(options: RuntimeOptions = {}): Runtime {
  const workers = count('workers', options.workers ?? 1);
  const threads = count('threads', options.threads ?? Math.max(1, Math.floor(availableParallelism() / workers)));
  const slots = Array.from(
    { length: workers },
    (_, index) =>
      new Slot(
        index,
        options.isolation ?? 'thread',
        options.onRestart ?? (() => undefined),
        undefined,
        options.runLimitMs,
      ),
  );
  return new WorkerRuntime(slots, threads, options);
}

function count(name: string, value: number): number {
  if (!Number.isInteger(value) || value < 1) throw invalid(`${name} is ${value}, expected an integer of at least 1`);
  return value;
}

class WorkerRuntime implements Runtime {
  #nextSession = 1;
  #nextMemory = 1;
  #closed = false;

  constructor(
    private readonly slots: readonly Slot[],
    readonly threads: number,
    private readonly options: Pick<RuntimeOptions, 'spinning' | 'provider' | 'providerRequired' | 'onFallback'>,
  ) {}

  get provider(): ProviderName {
    return this.options.provider ?? 'cpu';
  }

  async load(model: string | Uint8Array, options: SessionOptions = {}): Promise<Session> {
    if (this.#closed) throw new HeartwoodError('FAILED_PRECONDITION', 'the runtime is closed');
    const label = typeof model === 'string' ? model : 'model bytes';
    if (typeof model === 'string' && !existsSync(model))
      throw new HeartwoodError('NOT_FOUND', `${model}: no such file`);
    const provider = options.provider ?? this.provider;
    if (provider === 'cpu') return this.#load(model, label, options, 'cpu');
    const instead = (at: ProviderFallback['at'], reason: string) =>
      this.#loadOnCpu(model, options, { provider, at, model: label, reason });
    const { inPlaceCaches } = providers[provider].cannot;
    if (options.inPlace === true && inPlaceCaches !== undefined) return instead('graph', inPlaceCaches);
    try {
      const first = await this.#load(model, label, options, provider);
      return new TrialSession(first, {
        onCpu: () => this.#load(model, label, options, 'cpu'),
        failed: (at, reason) => this.#fallBack({ provider, at, model: label, reason }),
      });
    } catch (thrown) {
      // A worker that died of it may have died of the provider.
      if (!(thrown instanceof HeartwoodError) || !['INVALID_ARGUMENT', 'UNAVAILABLE'].includes(thrown.code))
        throw thrown;
      return instead('load', oneLine(messageOf(thrown.cause ?? thrown)));
    }
  }

  /** Throws FAILED_PRECONDITION where the provider is required, and as `load`: then the model is to blame, and nothing fell back. */
  async #loadOnCpu(model: string | Uint8Array, options: SessionOptions, fallback: ProviderFallback): Promise<Session> {
    if (this.options.providerRequired === true) this.#fallBack(fallback);
    const session = await this.#load(model, fallback.model, options, 'cpu');
    this.#fallBack(fallback);
    return session;
  }

  /** Tells of it, or throws FAILED_PRECONDITION where the provider is required. */
  #fallBack(fallback: ProviderFallback): void {
    const { provider, at, model, reason } = fallback;
    if (this.options.providerRequired === true)
      throw new HeartwoodError(
        'FAILED_PRECONDITION',
        `${model}: the required provider ${provider} ${refusals[at]}: ${reason}`,
      );
    this.options.onFallback?.(fallback);
  }

  async #load(
    model: string | Uint8Array,
    label: string,
    options: SessionOptions,
    provider: ProviderName,
  ): Promise<Session> {
    const instances = Math.min(count('instances', options.instances ?? 1), this.slots.length);
    const settings: SessionSettings = {
      optimization: options.optimization ?? 'all',
      prepacking: options.prepacking ?? true,
      provider,
      profile: options.profile,
      threads: options.threads ?? this.threads,
      spinning: options.spinning ?? this.options.spinning ?? false,
    };
    const id = this.#nextSession++;
    const slots = [...this.slots].sort((a, b) => a.sessions - b.sessions).slice(0, instances);
    let broke = (_reason: HeartwoodError): void => undefined;
    const broken = new Promise<HeartwoodError>((resolve) => (broke = resolve));
    const onBroken = (): void => {
      const reasons = slots.map((slot) => slot.broken(id));
      if (reasons.every((reason) => reason !== undefined)) broke(reasons[0]!);
    };
    const loads = await Promise.allSettled(slots.map((slot) => slot.load({ id, model, settings }, onBroken)));
    const failed = loads.find((load) => load.status === 'rejected');
    if (failed) {
      await Promise.all(slots.map((slot) => slot.release(id)));
      const { reason } = failed as { reason: unknown };
      if (!(reason instanceof HeartwoodError) || reason.code !== 'INVALID_ARGUMENT') throw reason;
      throw invalid(`${label}: not a model that the runtime can load: ${oneLine(reason.message)}`, reason);
    }
    const [loaded] = loads as PromiseFulfilledResult<Loaded>[];
    return new PinnedSession(slots, id, loaded!.value, provider, broken, () => this.#nextMemory++);
  }

  processes(): ReadonlyMap<number, number> {
    return new Map(this.slots.flatMap(({ pid }, index) => (pid === undefined ? [] : [[index, pid] as const])));
  }

  async close(graceMs?: number): Promise<void> {
    this.#closed = true;
    await Promise.all(this.slots.map((slot) => slot.close(graceMs)));
  }
}
