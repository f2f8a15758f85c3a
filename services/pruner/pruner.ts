import { createRuntime } from '../../libs/runtime/runtime.js';
import { Jobs } from '../../libs/store/jobs/jobs.js';
import type { JobContext } from '../../libs/store/jobs/job-run.js';
import { openRepository } from '../../libs/store/repository.js';
import { createLogger, type Logger } from '../../libs/telemetry/log.js';
import { optionError } from '../settings/option-error.js';
import { createRegistry, type MetricsEndpoint, serveMetrics } from '../../libs/telemetry/metrics.js';
import { PruningServiceDefinition } from '../../proto/gen/heartwood/pruning/v1/pruning.js';
import { openTransport, type Transport } from '../grpc/transport.js';
import { checkAllowed } from './allowed-paths.js';
import { openProvider } from '../providers/open-provider.js';
import { defaultWork } from './default-work.js';
import { type PrunerOptions, type PrunerSettings, settingsOf } from './options.js';
import type { JobRequest } from './prune-request.js';
import type { PruneWork } from './prune-work.js';
import { PrunerMetrics } from './pruner-metrics.js';
import { pruningService } from './pruning-service.js';

/** What a test or another host may put in place of the service's own. */
export interface PrunerParts {
  logger?: Logger;
  /** The work of a job (default: `prune` of libs/pruning). */
  work?: PruneWork;
}

export interface RunningWorker {
  readonly metricsPort: number;
  /** Takes no more jobs; the one in hand stops at its last checkpoint, to be gone on with. */
  stop(): Promise<void>;
}

export interface RunningPruner extends RunningWorker {
  readonly grpcPort: number;
}

/**
 * Starts a pruner: gRPC, metrics, and a worker that runs one job after the other. When it is ready the log has a line with
 * `"event":"ready"`, `grpcPort` and `metricsPort`.
 * @throws HeartwoodError INVALID_ARGUMENT (an option), UNAVAILABLE (a port or the database), FAILED_PRECONDITION (the data folder is
 *   another living pruner's, a provider that is required cannot be had)
 */
export async function startPruner(options: PrunerOptions, parts: PrunerParts = {}): Promise<RunningPruner> {
  const settings = settingsOf(options);
  const log = parts.logger ?? createLogger('heartwood-pruner', settings.logLevel);
  const engine = await startEngine(settings, log, parts.work);
  const report = (error: unknown, method: string): void =>
    log.error({ method, err: error }, 'a call failed by a defect of ours');
  let transport: Transport | undefined;
  let grpcPort: number;
  try {
    transport = await openTransport(settings, { port: settings.port, log, registry: engine.registry, report });
    transport.add(PruningServiceDefinition, pruningService(engine.jobs, transport.stopping, settings));
    grpcPort = await transport.listen();
  } catch (error) {
    await Promise.all([engine.stop(), transport?.stop(0)]);
    throw error;
  }
  transport.health.start();
  log.info({ event: 'ready', grpcPort, metricsPort: engine.metricsPort, repository: settings.repository }, 'pruning');
  return {
    grpcPort,
    metricsPort: engine.metricsPort,
    stop: once(async () => {
      log.info({ event: 'stopping' }, 'stopping');
      await transport.stop(settings.drainMs);
      await engine.stop();
      log.info({ event: 'stopped' }, 'stopped');
    }),
  };
}

/**
 * Starts a worker without a service: more hands for the jobs of a PostgreSQL database. It must see the same paths as the pruner.
 * @throws HeartwoodError as {@link startPruner}; INVALID_ARGUMENT without a database to share
 */
export async function startWorker(options: PrunerOptions, parts: PrunerParts = {}): Promise<RunningWorker> {
  const settings = settingsOf(options);
  if (!settings.database)
    throw optionError('database', 'expected a postgres:// URL, since the embedded one has one process');
  const log = parts.logger ?? createLogger('heartwood-worker', settings.logLevel);
  const engine = await startEngine(settings, log, parts.work);
  log.info({ event: 'ready', metricsPort: engine.metricsPort, repository: settings.repository }, 'working');
  return {
    metricsPort: engine.metricsPort,
    stop: once(async () => {
      log.info({ event: 'stopping' }, 'stopping');
      await engine.stop();
      log.info({ event: 'stopped' }, 'stopped');
    }),
  };
}

/** Runs a pruner or worker until the process is told to end (SIGTERM, SIGINT), then stops it; a second signal ends it at once. */
export async function runUntilSignal(start: () => Promise<RunningWorker>): Promise<void> {
  const told = new Promise<void>((resolve) => {
    process.once('SIGTERM', () => resolve());
    process.once('SIGINT', () => resolve());
  });
  const running = await start();
  await told;
  await running.stop();
}

/** Jobs, the worker that runs them, and the metrics: what a pruner and a worker have in common. */
async function startEngine(settings: PrunerSettings, log: Logger, given: PruneWork | undefined) {
  const work = given ?? defaultWork;
  const registry = createRegistry();
  const provider = await openProvider(settings, registry, log);
  const repository = await openRepository(settings.repository, { create: true });
  const runtime = createRuntime({
    workers: settings.workers,
    ...(settings.threads ? { threads: settings.threads } : {}),
    ...provider,
  });
  const metrics = new PrunerMetrics(registry);
  let endpoint: MetricsEndpoint | undefined;
  let jobs: Jobs | undefined;
  const stop = async () => {
    await jobs?.close();
    await Promise.all([runtime.close(), endpoint?.close()]);
  };
  try {
    endpoint = await serveMetrics(registry, settings.metricsPort, settings.metricsHost ?? settings.host);
    jobs = await Jobs.open({
      directory: settings.dataDirectory,
      ...(settings.database ? { database: settings.database } : {}),
      work: async (request, context: JobContext) => {
        const job = context.jobId;
        log.info({ event: 'job', job }, 'job taken up');
        await checkAllowed(request as JobRequest, settings);
        const asked = { ...(request as JobRequest), repository: repository.directory, publication: job };
        const outcome = await work(asked, { ...context, runtime });
        log.info({ event: 'job', job, version: outcome.version }, 'job done');
        return outcome;
      },
      leaseSeconds: settings.leaseSeconds,
      heartbeatMs: settings.heartbeatMs,
      pollMs: settings.pollMs,
      maxDeaths: settings.maxDeaths,
      onStage: (stage) => metrics.completed(stage),
      onWarning: (message, error) => log.warn({ err: error }, message),
    });
    metrics.observe(jobs);
    return { jobs, registry, metricsPort: endpoint.port, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

function once(action: () => Promise<void>): () => Promise<void> {
  let done: Promise<void> | undefined;
  return () => (done ??= action());
}
