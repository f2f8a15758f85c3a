import { HeartwoodError } from '../../errors/error.js';
import { persist } from '../database/persist.js';
import type { CheckpointStore } from './checkpoints.js';
import type { JobRecord } from './job.js';
import type { JobStore } from './job-store.js';
import type { ShardStore } from './shard-store.js';
import { sharedWork, type ShardEnd, type SharedWork } from './shared-task.js';
import { type ProgressEvent, StageTracker } from './stage-tracker.js';

/** What the work of a job is given. */
export interface JobContext {
  readonly jobId: string;
  /** The stage's result: that of an earlier attempt when it was completed there, else that of `compute`, kept before it is given. */
  checkpoint<T>(stage: string, compute: () => Promise<T>): Promise<T>;
  progress(event: ProgressEvent): void;
  /** Aborted when the job was cancelled, was lost to another worker, or the worker is to stop. */
  readonly signal: AbortSignal;
  /** A folder of the job's own, which is deleted when the job has ended. */
  readonly workDirectory: string;
  /** Work that other processes take a part in; absent where there can be none (the embedded database). */
  readonly shared?: SharedWork;
}

/** Why a run ended before its work did; the abort reason of its signal. */
export type StopReason = 'cancelled' | 'lost' | 'shutdown';

/** A stage that was completed, for metrics. */
export interface CompletedStage {
  stage: string;
  seconds: number;
}

interface RunOptions {
  store: JobStore;
  checkpoints: CheckpointStore;
  shards?: ShardStore | undefined;
  worker: string;
  workDirectory: string;
  heartbeatMs: number;
  leaseMs: number;
  pollMs: number;
  onChange: (job: string) => void;
  onStage: (stage: CompletedStage) => void;
  onShard: (shard: ShardEnd) => void;
  onWarning: (message: string, error: unknown) => void;
}

/** Holds one job: keeps its lease, writes its progress down, and notices when it is no longer its own. */
export class JobRun {
  readonly #abort = new AbortController();
  readonly #tracker: StageTracker;
  #stopped: StopReason | undefined;
  /** Set when the database or disk failed the run rather than the work itself. */
  storageFailed = false;
  #changed = false;
  #completed = false;
  #renewed = performance.now();
  #saving: Promise<void> | undefined;
  readonly #timer: NodeJS.Timeout;

  constructor(
    readonly job: JobRecord,
    private readonly options: RunOptions,
  ) {
    this.#tracker = new StageTracker(job.stages);
    this.#timer = setInterval(() => void this.#save(), options.heartbeatMs);
  }

  get stopped(): StopReason | undefined {
    return this.#stopped;
  }

  /** Milliseconds for which the job is sure to be this worker's. */
  get leaseLeftMs(): number {
    return this.options.leaseMs - (performance.now() - this.#renewed);
  }

  get stages() {
    return this.#tracker.snapshot();
  }

  readonly context = (): JobContext => ({
    jobId: this.job.id,
    checkpoint: (stage, compute) => this.#checkpoint(stage, compute),
    progress: (event) => {
      this.#tracker.progress(event);
      this.#changed = true;
    },
    signal: this.#abort.signal,
    workDirectory: this.options.workDirectory,
    ...this.#shared(),
  });

  /** Tells the work to stop. */
  stop(reason: StopReason): void {
    if (this.#stopped) return;
    this.#stopped = reason;
    const text = { cancelled: 'was cancelled', lost: 'went to another worker', shutdown: 'stops with its worker' }[
      reason
    ];
    this.#abort.abort(new HeartwoodError('CANCELLED', `job ${this.job.id} ${text}`));
  }

  /** Ends the care for the job; nothing is written after this returns. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#saving;
  }

  #shared(): Pick<JobContext, 'shared'> {
    const { shards: store, ...options } = this.options;
    return store ? { shared: sharedWork({ ...options, store, job: this.job.id, signal: this.#abort.signal }) } : {};
  }

  async #checkpoint<T>(stage: string, compute: () => Promise<T>): Promise<T> {
    const { checkpoints, shards, worker } = this.options;
    this.#abort.signal.throwIfAborted();
    const stored = await this.#storage(() => checkpoints.read(this.job.id, stage));
    if (stored) {
      this.#tracker.complete(stage, true);
      await this.#save(true);
      return stored.value as T;
    }
    this.#tracker.begin(stage);
    await this.#save(true);
    const value = await compute();
    this.#abort.signal.throwIfAborted();
    await this.#storage(() => checkpoints.write(this.job.id, stage, value, worker));
    // What was kept is what goes on, so that a run that was never interrupted sees exactly what a resumed one does.
    const kept = await this.#storage(() => checkpoints.read(this.job.id, stage));
    if (!kept) {
      this.storageFailed = true;
      throw new HeartwoodError('UNAVAILABLE', `checkpoint ${stage} of job ${this.job.id}: could not be read back`);
    }
    // The stage's result stands for those of its shards.
    await this.#storage(async () => shards?.clear(this.job.id));
    this.#tracker.complete(stage, false);
    this.#completed = true;
    this.options.onStage({ stage, seconds: this.stages.find(({ name }) => name === stage)!.seconds });
    await this.#save(true);
    return kept.value as T;
  }

  async #storage<T>(action: () => Promise<T>): Promise<T> {
    try {
      // A database that is away for less than the lease costs nothing but the wait.
      return await persist(action, () => !this.#stopped && this.leaseLeftMs > 0);
    } catch (error) {
      // A checkpoint that cannot be encoded is a defect of the work, not of the disk, and would come again for ever.
      this.storageFailed = !(error instanceof HeartwoodError && error.code === 'INTERNAL');
      throw error;
    }
  }

  /**
   * Writes progress down when there is some, else extends the lease. Writings follow one another, so that none overtakes a later one.
   * @param now a stage just changed: written even when one is under way
   */
  async #save(now = false): Promise<void> {
    if (this.#saving && !now) return;
    if (now) this.#changed = true;
    const saving: Promise<void> = (this.#saving ?? Promise.resolve())
      .then(() => this.#write())
      .finally(() => {
        if (this.#saving === saving) this.#saving = undefined;
      });
    this.#saving = saving;
    await saving;
  }

  async #write(): Promise<void> {
    const { store, worker, leaseMs, onChange, onWarning } = this.options;
    const began = performance.now();
    const changed = this.#changed;
    const completed = this.#completed;
    const renewNow = began - this.#renewed > leaseMs / 6;
    try {
      this.#changed = false;
      let held = true;
      if (changed) held = await store.saveStages(this.job.id, worker, this.#tracker.snapshot(), completed);
      if (completed) this.#completed = false;
      // Asking at every beat is also how a cancellation through another process is noticed.
      if (held && (renewNow || !changed)) held = await store.renew(this.job.id, worker);
      if (!held) return this.stop((await store.get(this.job.id)).state === 'cancelled' ? 'cancelled' : 'lost');
      if (renewNow || !changed) this.#renewed = began;
      if (changed) onChange(this.job.id);
    } catch (error) {
      this.#changed ||= changed;
      onWarning(`progress of job ${this.job.id} could not be written`, error);
      if (this.leaseLeftMs < 0) this.stop('lost');
    }
  }
}
