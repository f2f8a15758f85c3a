import { randomBytes } from 'node:crypto';
import { EventEmitter } from 'node:events';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { makeFolders } from '../../errors/make-folders.js';
import type { Database } from '../database/database.js';
import { openEmbedded } from '../database/embedded.js';
import { openPostgresql } from '../database/postgresql.js';
import { DatabaseCheckpoints, FileCheckpoints } from './checkpoints.js';
import { hasEnded, type JobRecord, type JobState } from './job.js';
import { JobQueue } from './job-queue.js';
import type { CompletedStage, JobContext } from './job-run.js';
import { JobStore } from './job-store.js';
import { JobWorker } from './job-worker.js';
import { createJobTables } from './schema.js';
import { type ShardState, ShardStore } from './shard-store.js';
import { type ShardWork, ShardWorker } from './shard-worker.js';
import type { ShardEnd } from './shared-task.js';
import { pendingStage } from './stage-tracker.js';

export interface OpenJobsOptions {
  /** Folder for the embedded database and the jobs' own folders. */
  directory: string;
  /** `postgres://…`; the embedded database when absent. */
  database?: string;
  /** The work of a job; without it this process only queues jobs and tells of them. */
  work?: (request: unknown, context: JobContext) => Promise<unknown>;
  /** The work on shards of anybody's jobs, done while this process has no job in hand; of a database that can be shared alone. */
  shardWork?: ShardWork;
  /** Seconds that a job stays with a worker that gives no sign of life (default 30). */
  leaseSeconds?: number;
  /** Milliseconds between two writings of a running job's progress (default 500). */
  heartbeatMs?: number;
  /** Milliseconds between two looks for jobs of other processes (default 1000). */
  pollMs?: number;
  /** How often in a row a worker may die in the same stage before the job fails, and a shard may fail or its worker die (default 3). */
  maxDeaths?: number;
  onStage?: (stage: CompletedStage) => void;
  onShard?: (shard: ShardEnd) => void;
  onWarning?: (message: string, error: unknown) => void;
}

/** Jobs that survive their process: create, look at, watch and cancel them; and, given the work, run them. */
export class Jobs {
  readonly #events = new EventEmitter().setMaxListeners(0);
  #worker: JobWorker | undefined;
  #shardWorker: ShardWorker | undefined;

  private constructor(
    private readonly database: Database,
    private readonly queue: JobQueue,
    private readonly store: JobStore,
    /** Absent where the jobs are this process's alone. */
    private readonly shards: ShardStore | undefined,
    private readonly pollMs: number,
  ) {}

  /** @throws HeartwoodError as {@link openPostgresql} and {@link openEmbedded}; as {@link writeFailure} for the folder */
  static async open(options: OpenJobsOptions): Promise<Jobs> {
    const { leaseSeconds = 30, heartbeatMs = 500, pollMs = 1000, maxDeaths = 3, onWarning } = options;
    await makeFolders(options.directory);
    const database = options.database
      ? await openPostgresql(options.database)
      : await openEmbedded(join(options.directory, 'database'));
    try {
      await createJobTables(database);
      const queue = await JobQueue.start(database, (error) =>
        onWarning?.('the job queue could not be maintained', error),
      );
      const store = new JobStore(database, queue, leaseSeconds);
      // Files are much faster than the embedded database; but only a database can be shared.
      const directory = join(options.directory, 'jobs');
      const checkpoints = database.embedded ? new FileCheckpoints(directory) : new DatabaseCheckpoints(database);
      const shards =
        checkpoints instanceof DatabaseCheckpoints
          ? new ShardStore(database, queue, checkpoints, leaseSeconds, maxDeaths)
          : undefined;
      const jobs = new Jobs(database, queue, store, shards, pollMs);
      const hands = {
        store,
        queue,
        worker: `${hostname()}-${process.pid}-${randomBytes(4).toString('hex')}`,
        leaseMs: leaseSeconds * 1000,
        pollMs,
        ...(options.onShard ? { onShard: options.onShard } : {}),
        ...(onWarning ? { onWarning } : {}),
      };
      if (options.work) {
        jobs.#worker = new JobWorker({
          ...hands,
          checkpoints,
          shards,
          work: options.work,
          directory,
          alone: database.embedded,
          heartbeatMs,
          maxDeaths,
          onChange: (id) => jobs.#events.emit(id),
          ...(options.onStage ? { onStage: options.onStage } : {}),
        });
        await jobs.#worker.start();
      }
      if (options.shardWork && shards) {
        const free = () => jobs.#worker?.busy !== true;
        jobs.#shardWorker = new ShardWorker({ ...hands, store: shards, work: options.shardWork, free });
        jobs.#shardWorker.start();
      }
      return jobs;
    } catch (error) {
      await database.close();
      throw error;
    }
  }

  /** See {@link JobStore.create}. @param stages names of the stages to expect, in order */
  async create(request: unknown, stages: readonly string[], requestId = ''): Promise<JobRecord> {
    const { job, created } = await this.store.create(request, stages.map(pendingStage), requestId);
    if (created) this.#worker?.wake();
    return job;
  }

  /** @throws HeartwoodError NOT_FOUND, INVALID_ARGUMENT */
  get(id: string): Promise<JobRecord> {
    return this.store.get(id);
  }

  /** See {@link JobStore.list}. */
  list(options: { states?: readonly JobState[]; limit: number; before?: string }): Promise<JobRecord[]> {
    return this.store.list(options);
  }

  count(): Promise<Record<JobState, number>> {
    return this.store.count();
  }

  /** Throws UNAVAILABLE when the database does not answer. */
  async ping(): Promise<void> {
    await this.database.query('SELECT 1');
  }

  /** How many shards of jobs under way are in each state; undefined where the jobs are this process's alone. */
  async countShards(): Promise<Record<ShardState, number> | undefined> {
    return this.shards?.count();
  }

  /** Cancels a job, at once when this process runs it. @throws HeartwoodError NOT_FOUND, INVALID_ARGUMENT */
  async cancel(id: string): Promise<JobRecord> {
    const job = await this.store.cancel(id);
    if (job.state === 'cancelled') {
      this.#worker?.cancelled(id);
      await this.shards?.clear(id);
    }
    this.#events.emit(id);
    return job;
  }

  /** The job now and after every change, until it has ended or the signal aborts (which throws its reason). */
  async *watch(id: string, signal: AbortSignal): AsyncGenerator<JobRecord> {
    for (let revision = -1; ;) {
      signal.throwIfAborted();
      // Listen before reading, so that no change falls between the two.
      const change = this.#change(id, signal);
      try {
        const job = await this.get(id);
        if (job.revision !== revision) yield job;
        revision = job.revision;
        if (hasEnded(job.state)) return;
        await change.promise;
      } finally {
        change.dispose();
      }
    }
  }

  /** Lets the running job stop at its last checkpoint and closes the database. */
  async close(): Promise<void> {
    await Promise.all([this.#worker?.stop(), this.#shardWorker?.stop()]);
    await this.queue.stop();
    await this.database.close();
  }

  /** Resolves at the next change known in this process, after the poll interval, or when the signal aborts. */
  #change(id: string, signal: AbortSignal): { promise: Promise<void>; dispose(): void } {
    let settle!: () => void;
    const promise = new Promise<void>((resolve) => (settle = resolve));
    const timer = setTimeout(settle, this.pollMs);
    this.#events.once(id, settle);
    signal.addEventListener('abort', settle, { once: true });
    return {
      promise,
      dispose: () => {
        clearTimeout(timer);
        this.#events.off(id, settle);
        signal.removeEventListener('abort', settle);
      },
    };
  }
}
