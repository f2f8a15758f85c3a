import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { HeartwoodError } from '../../libs/errors/error.js';
import { shardMeasuring } from '../../libs/pruning/shards.js';
import { createRuntime } from '../../libs/runtime/runtime.js';
import type { JobContext } from '../../libs/store/jobs/job-run.js';
import { Jobs } from '../../libs/store/jobs/jobs.js';
import type { ShardWork } from '../../libs/store/jobs/shard-worker.js';
import { openRepository } from '../../libs/store/repository.js';
import type { Logger } from '../../libs/telemetry/log.js';
import { createRegistry, type MetricsEndpoint, serveMetrics } from '../../libs/telemetry/metrics.js';
import { openProvider } from '../providers/open-provider.js';
import { checkAllowed } from './allowed-paths.js';
import { defaultWork } from './default-work.js';
import type { EngineSettings } from './options.js';
import { orAborted } from './or-aborted.js';
import type { JobRequest } from './prune-request.js';
import type { PruneWork } from './prune-work.js';
import { PrunerMetrics } from './pruner-metrics.js';
import { openScratch, type Scratch } from './scratch.js';

/** What a test or another host may put in place of a service's own. */
export interface EngineParts {
  logger?: Logger;
  /** The work of a job (default: `prune` of libs/pruning). */
  work?: PruneWork;
  /** The work on a shard of somebody's job (default: the measurements of libs/curvature). */
  shardWork?: ShardWork;
  /** Aborted while it starts: what was opened is closed, and the start throws the signal's reason. */
  signal?: AbortSignal;
}

/**
 * Jobs, the workers that run them and take shards of others' jobs, and the metrics: what a pruner and a worker have in common. Without a
 * repository no jobs are run, since there is nowhere to publish, and shards are all that is taken.
 */
export async function startEngine(settings: EngineSettings, log: Logger, parts: EngineParts = {}) {
  const { signal } = parts;
  const registry = createRegistry();
  const provider = await orAborted(openProvider(settings, registry, log), signal);
  const repository =
    settings.repository === undefined ? undefined : await openRepository(settings.repository, { create: true });
  const runtime = createRuntime({
    workers: settings.workers,
    ...(settings.threads ? { threads: settings.threads } : {}),
    ...provider,
  });
  const metrics = new PrunerMetrics(registry);
  let endpoint: MetricsEndpoint | undefined;
  let jobs: Jobs | undefined;
  let scratch: Scratch | undefined;
  const stop = async () => {
    await jobs?.close();
    await Promise.all([runtime.close(), endpoint?.close()]);
    await scratch?.remove();
  };
  const work = parts.work ?? defaultWork;
  const run = repository && {
    work: async (request: unknown, context: JobContext) => {
      const job = context.jobId;
      log.info({ event: 'job', job }, 'job taken up');
      await checkAllowed(request as JobRequest, settings);
      const asked = { ...(request as JobRequest), repository: repository.directory, publication: job };
      const outcome = await work(asked, { ...context, runtime });
      log.info({ event: 'job', job, version: outcome.version }, 'job done');
      return outcome;
    },
  };
  try {
    const health = async () => {
      if (!jobs) throw new HeartwoodError('UNAVAILABLE', 'starting');
      await jobs.ping();
    };
    endpoint = await serveMetrics(registry, settings.metricsPort, settings.metricsHost ?? settings.host, { health });
    // A folder of this process alone: others may have the data folder too.
    scratch = await openScratch(settings.dataDirectory ?? tmpdir());
    const opening = Jobs.open({
      directory: settings.dataDirectory ?? scratch.path,
      ...(settings.database ? { database: settings.database } : {}),
      ...run,
      shardWork:
        parts.shardWork ??
        shardMeasuring({
          runtime,
          mostThreads: settings.threads,
          workDirectory: join(scratch.path, 'work'),
          allowed: (paths) => checkAllowed(paths, settings),
        }),
      leaseSeconds: settings.leaseSeconds,
      heartbeatMs: settings.heartbeatMs,
      pollMs: settings.pollMs,
      maxDeaths: settings.maxDeaths,
      onStage: (stage) => metrics.completed(stage),
      onShard: (shard) => {
        metrics.shard(shard);
        log.debug({ event: 'shard', ...shard }, 'shard');
      },
      onWarning: (message, error) => log.warn({ err: error }, message),
    });
    jobs = await orAborted(opening, signal).catch((error: unknown) => {
      // A database that answers after all is left at once.
      void opening.then((late) => late.close()).catch(() => undefined);
      throw error;
    });
    metrics.observe(jobs);
    return { jobs, registry, metricsPort: endpoint.port, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** An action that is done once however often it is asked for. */
export function once(action: () => Promise<void>): () => Promise<void> {
  let done: Promise<void> | undefined;
  return () => (done ??= action());
}
