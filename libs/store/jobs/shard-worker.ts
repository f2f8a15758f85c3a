import type { JobQueue } from './job-queue.js';
import { holdShard } from './held-shard.js';
import { Rest } from './rest.js';
import type { ShardEnd } from './shared-task.js';
import type { HeldShard, ShardStore } from './shard-store.js';

/** What a process does with shards of anybody's jobs. */
export interface ShardWork {
  /** Does a shard; throws `ShardRefused` for one that this process is not fit for. */
  take(content: unknown, signal: AbortSignal): Promise<unknown>;
  /** There is nothing to take: what was kept ready for the next shard may go. */
  rest(): Promise<void>;
}

export interface ShardWorkerOptions {
  readonly store: ShardStore;
  readonly queue: JobQueue;
  readonly worker: string;
  readonly work: ShardWork;
  /** Whether this process has nothing better to do just now. */
  readonly free: () => boolean;
  readonly leaseMs: number;
  readonly pollMs: number;
  readonly onShard?: (shard: ShardEnd) => void;
  readonly onWarning?: (message: string, error: unknown) => void;
}

/** Takes shards of anybody's jobs one after the other, in this process. */
export class ShardWorker {
  readonly #stopping = new AbortController();
  /** Tasks that this process is not fit for, as `job/task`: others may take them. */
  readonly #refused = new Set<string>();
  #loop: Promise<void> | undefined;
  readonly #rest = new Rest();

  constructor(private readonly options: ShardWorkerOptions) {}

  /** Takes whatever is queued, until {@link stop}. */
  start(): void {
    this.#loop = this.#run();
  }

  /** Takes no more shards; the one in hand is given back. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#rest.wake();
    await this.#loop;
    await this.options.work.rest();
  }

  async #run(): Promise<void> {
    const { store, free, pollMs, work, onWarning } = this.options;
    for (let looked = -Infinity; !this.#stopping.signal.aborted;) {
      try {
        if (free()) {
          const due = performance.now() - looked > pollMs;
          if (due) {
            looked = performance.now();
            await store.reclaim();
            await store.sweep();
          }
          const shard = await this.#next(due);
          if (shard) {
            await this.#take(shard);
            // There may be more, message or not.
            looked = -Infinity;
            continue;
          }
        }
        await work.rest();
      } catch (error) {
        onWarning?.('shards could not be looked for', error);
      }
      await this.#rest.wait(pollMs);
    }
  }

  /** The next shard: when a message says that there is one, or it is time to look without. */
  async #next(due: boolean): Promise<HeldShard | undefined> {
    const { store, queue, worker } = this.options;
    const first = await queue.fetchShard();
    if (first === undefined && !due) return undefined;
    return store.claim(worker, { ...(first === undefined ? {} : { first }), except: [...this.#refused] });
  }

  async #take(shard: HeldShard): Promise<void> {
    const { store, worker, leaseMs, work, onShard, onWarning } = this.options;
    const began = performance.now();
    const hold = { store, worker, leaseMs, signal: this.#stopping.signal };
    const outcome = await holdShard(
      shard,
      { ...hold, onWarning: (message, error) => onWarning?.(message, error) },
      (signal) => work.take(shard.content, signal),
    );
    if (outcome === 'refused') this.#refused.add(`${shard.job}/${shard.task}`);
    onShard?.({ outcome, seconds: (performance.now() - began) / 1000 });
  }
}
