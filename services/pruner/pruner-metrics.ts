import type { CompletedStage } from '../../libs/store/jobs/job-run.js';
import { JOB_STATES } from '../../libs/store/jobs/job.js';
import type { Jobs } from '../../libs/store/jobs/jobs.js';
import { Gauge, Histogram, type Registry } from '../../libs/telemetry/metrics.js';

/** The pruner's metrics: jobs by state (read from the database at every scrape) and how long stages took in this process. */
export class PrunerMetrics {
  readonly #duration;
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
  }

  /** Says where the jobs are, once there are any. */
  observe(jobs: Jobs): void {
    this.#jobs = jobs;
  }

  completed({ stage, seconds }: CompletedStage): void {
    this.#duration.observe({ stage }, seconds);
  }
}
