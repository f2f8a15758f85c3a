import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { persist } from '../database/persist.js';
import type { CheckpointStore } from './checkpoints.js';
import { describeFailure } from './held-shard.js';
import { hasEnded, type JobRecord } from './job.js';
import type { JobQueue } from './job-queue.js';
import { type CompletedStage, type JobContext, JobRun } from './job-run.js';
import type { JobStore } from './job-store.js';
import { Rest } from './rest.js';
import type { ShardStore } from './shard-store.js';
import type { ShardEnd } from './shared-task.js';

export interface JobWorkerOptions {
  store: JobStore;
  queue: JobQueue;
  checkpoints: CheckpointStore;
  /** Shards of jobs, where other processes can take some. */
  shards?: ShardStore | undefined;
  /** Whose jobs they are while this process holds them; a name of its own. */
  worker: string;
  /** The work itself; its result must be JSON. */
  work: (request: unknown, context: JobContext) => Promise<unknown>;
  /** Folder of the jobs' own folders. */
  directory: string;
  /** No other process works on these jobs: what is running when this one starts was left by a dead one. */
  alone: boolean;
  leaseMs: number;
  /** How often a job's progress is written and its cancellation noticed. */
  heartbeatMs: number;
  /** How often to look for messages and dead workers when nothing says that there are any. */
  pollMs: number;
  maxDeaths: number;
  onChange?: (job: string) => void;
  onStage?: (stage: CompletedStage) => void;
  onShard?: (shard: ShardEnd) => void;
  onWarning?: (message: string, error: unknown) => void;
}

/** Takes jobs one after the other and runs them to their end, in this process. */
export class JobWorker {
  readonly #stopping = new AbortController();
  #current: JobRun | undefined;
  #loop: Promise<void> | undefined;
  readonly #rest = new Rest();

  constructor(private readonly options: JobWorkerOptions) {}

  /** Takes up what dead workers left, then whatever is queued, until {@link stop}. */
  async start(): Promise<void> {
    const { store, alone, maxDeaths } = this.options;
    await store.reclaim({ all: alone, maxDeaths });
    await store.announceQueued();
    await this.#sweep();
    this.#loop = this.#run();
  }

  /** Whether a job is in hand. */
  get busy(): boolean {
    return this.#current !== undefined;
  }

  /** Looks for messages at once; to be called when this process queued a job. */
  wake(): void {
    this.#rest.wake();
  }

  /** Stops a job at once if it is the one that this worker runs; the database must already say that it is cancelled. */
  cancelled(job: string): void {
    if (this.#current?.job.id === job) this.#current.stop('cancelled');
  }

  /** Takes no more jobs; the one in hand is told to stop and given back, to go on from its last checkpoint. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#current?.stop('shutdown');
    this.wake();
    await this.#loop;
  }

  async #run(): Promise<void> {
    const { queue, store, maxDeaths, pollMs } = this.options;
    let looked = performance.now();
    while (!this.#stopping.signal.aborted) {
      try {
        if (performance.now() - looked > pollMs && !this.options.alone) {
          looked = performance.now();
          await store.reclaim({ all: false, maxDeaths });
        }
        const message = await queue.fetch();
        if (message) {
          const job = await store.claim(message.job, this.options.worker);
          await message.acknowledge();
          if (job) await this.#execute(job);
          continue;
        }
      } catch (error) {
        this.options.onWarning?.('jobs could not be looked for', error);
      }
      await this.#rest.wait(pollMs);
    }
  }

  async #execute(job: JobRecord): Promise<void> {
    const { store, checkpoints, shards, worker, directory, leaseMs, heartbeatMs, pollMs } = this.options;
    const workDirectory = join(directory, job.id, 'work');
    const run = new JobRun(job, {
      store,
      checkpoints,
      shards,
      worker,
      workDirectory,
      heartbeatMs,
      leaseMs,
      pollMs,
      onChange: (id) => this.options.onChange?.(id),
      onStage: (stage) => this.options.onStage?.(stage),
      onShard: (shard) => this.options.onShard?.(shard),
      onWarning: (message, error) => this.options.onWarning?.(message, error),
    });
    this.#current = run;
    if (this.#stopping.signal.aborted) run.stop('shutdown');
    this.options.onChange?.(job.id);
    try {
      await mkdir(workDirectory, { recursive: true });
      const outcome = await this.options.work(job.request, run.context()).then(
        (result) => ({ result }),
        (error: unknown) => ({ error }),
      );
      await run.close();
      await this.#settle(run, outcome);
    } finally {
      await run.close();
      this.#current = undefined;
      this.options.onChange?.(job.id);
    }
  }

  /** As {@link #record}, tried again while the database is away and the lease has not run out. */
  async #settle(run: JobRun, outcome: { result: unknown } | { error: unknown }): Promise<void> {
    await persist(
      () => this.#record(run, outcome),
      () => run.leaseLeftMs > 0 && !this.#stopping.signal.aborted,
    );
  }

  /** Writes down how a run ended. When that fails, the lease runs out and the job is gone on with from its last checkpoint. */
  async #record(run: JobRun, outcome: { result: unknown } | { error: unknown }): Promise<void> {
    const { store, onWarning } = this.options;
    const { id } = run.job;
    let ended = run.stopped === 'cancelled';
    if ('result' in outcome) {
      ended = (await store.succeed(id, this.options.worker, run.stages, outcome.result)) || ended;
    } else if (run.stopped === 'shutdown') {
      await store.release(id, this.options.worker, run.stages);
    } else if (run.storageFailed) {
      onWarning?.(`job ${id} stopped: its progress could not be kept`, outcome.error);
      await store.release(id, this.options.worker, run.stages);
    } else if (!run.stopped) {
      const error = describeFailure(outcome.error);
      onWarning?.(`job ${id} failed: ${error.message}`, outcome.error);
      ended = await store.fail(id, this.options.worker, run.stages, error);
    }
    // One that ended without a word to us, when the answer was lost, has ended too.
    if (ended || hasEnded((await store.get(id)).state)) await this.#forget(id);
  }

  async #forget(id: string): Promise<void> {
    await this.options.shards?.clear(id);
    await this.options.checkpoints.clear(id);
    await rm(join(this.options.directory, id), { recursive: true, force: true });
  }

  /** Deletes what is left of jobs that have ended while nobody was there to delete it. */
  async #sweep(): Promise<void> {
    await mkdir(this.options.directory, { recursive: true });
    for (const id of await this.options.store.ended(await readdir(this.options.directory))) await this.#forget(id);
  }
}
