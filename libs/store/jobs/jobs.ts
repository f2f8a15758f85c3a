import { EventEmitter } from 'node:events';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { writeFailure } from '../../errors/write-failure.js';
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
import { pendingStage } from './stage-tracker.js';

export interface OpenJobsOptions {
  /** Folder for the embedded database and the jobs' own folders. */
  directory: string;
  /** `postgres://…`; the embedded database when absent. */
  database?: string;
  /** The work of a job; without it this process only queues jobs and tells of them. */
  work?: (request: unknown, context: JobContext) => Promise<unknown>;
  /** Seconds that a job stays with a worker that gives no sign of life (default 30). */
  leaseSeconds?: number;
  /** Milliseconds between two writings of a running job's progress (default 500). */
  heartbeatMs?: number;
  /** Milliseconds between two looks for jobs of other processes (default 1000). */
  pollMs?: number;
  /** How often in a row a worker may die in the same stage before the job fails (default 3). */
  maxDeaths?: number;
  onStage?: (stage: CompletedStage) => void;
  onWarning?: (message: string, error: unknown) => void;
}

/** Jobs that survive their process: create, look at, watch and cancel them; and, given the work, run them. */
export class Jobs {
  readonly #events = new EventEmitter().setMaxListeners(0);
  #worker: JobWorker | undefined;

  private constructor(
    private readonly database: Database,
    private readonly queue: JobQueue,
    private readonly store: JobStore,
    private readonly pollMs: number,
  ) {}

  /** @throws HeartwoodError as {@link openPostgresql} and {@link openEmbedded}; as {@link writeFailure} for the folder */
  static async open(options: OpenJobsOptions): Promise<Jobs> {
    const { leaseSeconds = 30, heartbeatMs = 500, pollMs = 1000, maxDeaths = 3, onWarning } = options;
    await mkdir(options.directory, { recursive: true }).catch((cause: unknown) => {
      throw writeFailure(options.directory, cause);
    });
    const database = options.database
      ? await openPostgresql(options.database)
      : await openEmbedded(join(options.directory, 'database'));
    try {
      await createJobTables(database);
      const queue = await JobQueue.start(database, (error) =>
        onWarning?.('the job queue could not be maintained', error),
      );
      const store = new JobStore(database, queue, leaseSeconds);
      const jobs = new Jobs(database, queue, store, pollMs);
      if (options.work) {
        const directory = join(options.directory, 'jobs');
        jobs.#worker = new JobWorker({
          store,
          queue,
          // Files are much faster than the embedded database; but only a database can be shared.
          checkpoints: database.embedded ? new FileCheckpoints(directory) : new DatabaseCheckpoints(database),
          work: options.work,
          directory,
          alone: database.embedded,
          leaseMs: leaseSeconds * 1000,
          heartbeatMs,
          pollMs,
          maxDeaths,
          onChange: (id) => jobs.#events.emit(id),
          ...(options.onStage ? { onStage: options.onStage } : {}),
          ...(onWarning ? { onWarning } : {}),
        });
        await jobs.#worker.start();
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

  /** Cancels a job, at once when this process runs it. @throws HeartwoodError NOT_FOUND, INVALID_ARGUMENT */
  async cancel(id: string): Promise<JobRecord> {
    const job = await this.store.cancel(id);
    if (job.state === 'cancelled') this.#worker?.cancelled(id);
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
    await this.#worker?.stop();
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
