import { HeartwoodError } from '../../../libs/errors/error.js';
import type { LateRun, Session, TimedRun } from '../../../libs/runtime/runtime.js';
import { bytesOf, canShare, joinFeeds, rowsOf } from './batch.js';
import { JobQueue, type Waiting } from './job-queue.js';
import type { Execution, InferenceJob, InferenceResult, Place, Scheduler } from './scheduler.js';
import type { SchedulingSettings } from './settings.js';

/** Thrown to the runtime when a worker's turn comes and nobody waits any more. */
const nothingToRun = new Error('nothing to run');

/** So many turns in a row that came to nothing mean that no worker can take the model any more. */
const mostMisses = 3;

/** A run that has begun. */
interface Begun {
  readonly entries: readonly Waiting[];
  readonly samples: number;
  readonly startedAt: number;
}

/**
 * Dynamic batching, as Triton means it: jobs wait in one queue by priority, and those that are there when a worker is free share its
 * run. A turn at a worker is asked for ahead of time, but which jobs it is for is decided when it comes: what was cancelled or is
 * late by then has cost nothing, and what has arrived meanwhile goes along. Samples that keep different numbers of tokens run
 * packed: that is the graph's own doing.
 *
 * A run that fails (its worker died, or the runtime refused it) is tried once more, each of its jobs alone, so that one that is
 * poisonous takes nobody with it.
 */
export class BatchingScheduler implements Scheduler {
  readonly #queue = new JobQueue();
  readonly #shared: boolean;
  /** Turns that have been asked for and have not come. */
  #turns = 0;
  /** Calls that have a place and no job in the queue yet. */
  #admitted = 0;
  #running = 0;
  #misses = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly session: Session,
    private readonly settings: SchedulingSettings,
  ) {
    this.#shared = canShare(session);
  }

  get waiting(): number {
    return this.#admitted + this.#queue.length;
  }

  get pending(): number {
    return this.waiting + this.#running;
  }

  get oldestWaitingMs(): number {
    const since = this.#queue.jobs.reduce((oldest, entry) => Math.min(oldest, entry.since), Infinity);
    return since === Infinity ? 0 : performance.now() - since;
  }

  admit(): Place {
    const { queueLimit } = this.settings;
    if (this.waiting >= queueLimit) {
      throw new HeartwoodError('RESOURCE_EXHAUSTED', `the queue is full: ${queueLimit} requests wait`);
    }
    this.#admitted++;
    let held = true;
    const leave = (): void => {
      if (held) this.#admitted--;
      held = false;
    };
    return {
      leave,
      submit: async (job) => {
        leave();
        return this.#enter(job);
      },
    };
  }

  async submit(job: InferenceJob): Promise<InferenceResult> {
    return this.admit().submit(job);
  }

  async #enter(job: InferenceJob): Promise<InferenceResult> {
    this.session.check(job.feeds, job.outputs);
    const { queueBytes, queueTimeoutMs } = this.settings;
    if (this.#queue.bytes + bytesOf(job) > queueBytes && this.#queue.length > 0) {
      throw new HeartwoodError('RESOURCE_EXHAUSTED', `the queue is full: ${this.#queue.bytes} bytes of tensors wait`);
    }
    const deadline = job.deadline ?? (queueTimeoutMs === undefined ? undefined : performance.now() + queueTimeoutMs);
    const result = this.#queue.enter({ ...job, deadline }, () => this.#pump());
    this.#pump();
    return result;
  }

  /** Asks for turns while there are jobs to give them to; with a queue delay, once it is over or enough have come. */
  #pump(): void {
    clearTimeout(this.#timer);
    while (this.#turns < Math.min(this.session.instances, this.#queue.length)) {
      const wait = this.#delay();
      if (wait > 0) {
        this.#timer = setTimeout(() => this.#pump(), wait);
        return;
      }
      void this.#turn();
    }
  }

  /** Milliseconds until the jobs that wait are to run. */
  #delay(): number {
    const { queueDelayMs, preferredBatches, runBatch } = this.settings;
    if (queueDelayMs === 0 || !this.#shared) return 0;
    const samples = this.#queue.jobs.reduce((sum, { job }) => sum + job.batch, 0);
    const enough = Math.min(runBatch, ...preferredBatches.filter((size) => size > 1));
    if (samples >= enough) return 0;
    return queueDelayMs - this.oldestWaitingMs;
  }

  async #turn(): Promise<void> {
    this.#turns++;
    let begun: Begun | undefined;
    const begin = (): LateRun => {
      this.#turns--;
      begun = this.#begin();
      const jobs = begun.entries.map(({ job }) => job);
      const outputs = [...new Set(jobs.flatMap((job) => job.outputs))];
      // A run of one job is fed with the job's own tensors, which have to stay in case that it is tried again.
      return { feeds: joinFeeds(jobs), outputs, transfer: jobs.length > 1 };
    };
    try {
      const run = await this.session.runLate(begin, { priority: () => this.#queue.jobs[0]?.priority ?? 0 });
      this.#answer(begun!, run);
    } catch (thrown) {
      if (begun) this.#failed(begun, thrown);
      else if (thrown !== nothingToRun) this.#missed(thrown);
    } finally {
      this.#running -= begun?.entries.length ?? 0;
      this.#pump();
    }
  }

  /** Takes the jobs whose turn it is. Throws `nothingToRun`. */
  #begin(): Begun {
    this.#queue.expire();
    const entries = this.#choose();
    if (entries.length === 0) throw nothingToRun;
    this.#queue.take(entries);
    this.#running += entries.length;
    this.#misses = 0;
    for (const { job } of entries) job.started?.();
    const samples = entries.reduce((sum, { job }) => sum + job.batch, 0);
    return { entries, samples, startedAt: performance.now() };
  }

  /** The first job, and after it those that may share its run, up to the greatest preferred number of samples that there are. */
  #choose(): Waiting[] {
    const [first, ...rest] = this.#queue.jobs;
    if (first === undefined) return [];
    if (!this.#shared || first.retried) return [first];
    const mates = rest.filter(({ key, retried }) => key === first.key && !retried);
    const { runBatch, preferredBatches } = this.settings;
    const available = [first, ...mates].reduce((sum, { job }) => sum + job.batch, 0);
    const preferred = preferredBatches.filter((size) => size <= Math.min(available, runBatch));
    const limit = preferred.length > 0 ? Math.max(...preferred) : runBatch;
    const chosen = [first];
    let samples = first.job.batch;
    for (const mate of mates) {
      if (samples >= limit) break;
      if (samples + mate.job.batch > limit) continue;
      chosen.push(mate);
      samples += mate.job.batch;
    }
    return chosen;
  }

  #answer({ entries, samples, startedAt }: Begun, { outputs, durationMs }: TimedRun): void {
    const execution: Execution = { startedAt, endedAt: startedAt + durationMs, samples };
    let from = 0;
    for (const { job, since, resolve, reject } of entries) {
      const common = { runBatch: samples, queueMs: startedAt - since, computeMs: durationMs, execution };
      try {
        resolve({ outputs: rowsOf(outputs, from, job.batch, samples), ...common });
      } catch (thrown) {
        reject(thrown);
      }
      from += job.batch;
    }
  }

  /** What the run was for is tried once more, each job alone; what has been tried alone is told. */
  #failed({ entries }: Begun, thrown: unknown): void {
    const again = isLoss(thrown) || entries.length > 1;
    for (const entry of entries) {
      if (!again || entry.retried) entry.reject(thrown);
      else {
        entry.retried = true;
        this.#queue.put(entry);
      }
    }
  }

  /** The worker was gone before the turn came: the next turn is at the one that replaces it, unless there is none to come. */
  #missed(thrown: unknown): void {
    this.#turns--;
    if (++this.#misses < mostMisses) return;
    this.#misses = 0;
    const entries = [...this.#queue.jobs];
    this.#queue.take(entries);
    for (const entry of entries) entry.reject(thrown);
  }
}

function isLoss(thrown: unknown): boolean {
  return thrown instanceof HeartwoodError && thrown.code === 'UNAVAILABLE';
}
