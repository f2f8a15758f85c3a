import type { CompletedStage } from '../../libs/store/jobs/job-run.js';
import { JOB_STATES } from '../../libs/store/jobs/job.js';
import type { Jobs } from '../../libs/store/jobs/jobs.js';
import { SHARD_OUTCOMES } from '../../libs/store/jobs/held-shard.js';
import { SHARD_STATES } from '../../libs/store/jobs/shard-store.js';
import type { ShardEnd } from '../../libs/store/jobs/shared-task.js';
import { Counter, Gauge, Histogram, type Registry } from '../../libs/telemetry/metrics.js';

/**
 * The metrics of a pruner and of a worker: jobs and shards by state (read from the database at every scrape), and what was done in this
 * process.
 */
export class PrunerMetrics {
  readonly #duration;
  readonly #shards;
  readonly #shardDuration;
  #jobs: Jobs | undefined;

  constructor(registry: Registry) {
    const count = () => this.#jobs?.count();
    new Gauge({
      name: 'heartwood_pruning_jobs',
      help: 'Jobs in the database by state.',
      labelNames: ['state'],
      registers: [registry],
      async collect() {
        const counts = await count();
        if (counts) for (const state of JOB_STATES) this.set({ state }, counts[state]);
      },
    });
    this.#duration = new Histogram({
      name: 'heartwood_pruning_stage_duration_seconds',
      help: 'Time that stages of jobs took, over all attempts.',
      labelNames: ['stage'],
      buckets: [0.01, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200],
      registers: [registry],
    });
    const waiting = () => this.#jobs?.countShards();
    new Gauge({
      name: 'heartwood_shards',
      help: 'Shards of jobs under way in the database by state; those that are queued wait for hands.',
      labelNames: ['state'],
      registers: [registry],
      async collect() {
        const counts = await waiting();
        if (counts) for (const state of SHARD_STATES) this.set({ state }, counts[state]);
      },
    });
    this.#shards = new Counter({
      name: 'heartwood_shards_total',
      help: 'Shards that this process took, by what became of them in its hands.',
      labelNames: ['outcome'],
      registers: [registry],
    });
    for (const outcome of SHARD_OUTCOMES) this.#shards.inc({ outcome }, 0);
    this.#shardDuration = new Histogram({
      name: 'heartwood_shard_duration_seconds',
      help: 'Time that a shard took in this process, its result written down.',
      buckets: [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800],
      registers: [registry],
    });
  }

  /** Says where the jobs are, once there are any. */
  observe(jobs: Jobs): void {
    this.#jobs = jobs;
  }

  completed({ stage, seconds }: CompletedStage): void {
    this.#duration.observe({ stage }, seconds);
  }

  shard({ outcome, seconds }: ShardEnd): void {
    this.#shards.inc({ outcome });
    if (outcome === 'done') this.#shardDuration.observe(seconds);
  }
}
