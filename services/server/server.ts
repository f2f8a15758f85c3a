import { createRequire } from 'node:module';
import { createRuntime } from '../../libs/runtime/runtime.js';
import { TEXT_GENERATION } from '../../libs/store/manifest.js';
import { openRepository } from '../../libs/store/repository.js';
import { createLogger, type Logger } from '../../libs/telemetry/log.js';
import { createRegistry, type MetricsEndpoint, serveMetrics } from '../../libs/telemetry/metrics.js';
import { ServingServiceDefinition } from '../../proto/gen/heartwood/serving/v1/serving.js';
import { GRPCInferenceServiceDefinition } from '../../proto/gen/open_inference_grpc.js';
import { openTransport } from '../grpc/transport.js';
import { openProvider } from '../providers/open-provider.js';
import { LatencyController } from './adapting/latency/latency-controller.js';
import { Shadowing } from './adapting/shadowing/shadowing.js';
import { Catalog } from './catalog/catalog.js';
import { healthOf } from './catalog/health.js';
import { ImagePool } from './inference/image-pool.js';
import { openServerEnergy } from './energy/energy.js';
import { Generation } from './inference/generation.js';
import { Inference } from './inference/inference.js';
import { openInference } from './open-inference/service.js';
import { InferenceStatistics } from './open-inference/statistics.js';
import { type ServerOptions, settingsOf } from './options.js';
import { loadVersion } from './catalog/served-version.js';
import { sizesToWarmUp } from './catalog/warm-up.js';
import { executedFlops } from './metrics/executed-flops.js';
import { WorkerMetrics } from './metrics/worker-metrics.js';
import { InferenceMetrics } from './metrics/inference-metrics.js';
import { GenerationMetrics } from './metrics/generation-metrics.js';
import { RemovedVersions } from './metrics/removed-versions.js';
import { VersionMetrics } from './metrics/version-metrics.js';
import { compareCall } from './serving/compare.js';
import { Allowance } from './serving/compare-samples.js';
import { classifyCall } from './serving/classify.js';
import { generateCall } from './serving/generate.js';
import type { Scheduler } from './scheduling/scheduler.js';
import { serving } from './serving/service.js';

/** Milliseconds that runs get to end in after the last request was answered or cut off. */
const lastGraceMs = 2_000;

export interface RunningServer {
  readonly grpcPort: number;
  readonly metricsPort: number;
  /** Takes no more requests, answers those under way (for `drainMs` at most), frees the sessions and the ports. */
  stop(): Promise<void>;
}

/**
 * Starts a server: opens its ports, looks at the repository once, and resolves when what is there is loaded; then the log has a line
 * with `"event":"ready"`, `grpcPort` and `metricsPort`. From then on it keeps in step with the repository by polling.
 * Throws NOT_FOUND (no repository), INVALID_ARGUMENT (an option, a file of certificates or tokens), UNAVAILABLE (a port that is taken),
 * FAILED_PRECONDITION (an energy meter that was named is not there, a provider that is required cannot be had).
 */
export async function startServer(
  options: ServerOptions,
  logger?: Logger,
  registry = createRegistry(),
  signal?: AbortSignal,
): Promise<RunningServer> {
  const settings = settingsOf(options);
  const log = logger ?? createLogger('heartwood-server', settings.logLevel);
  const repository = await openRepository(settings.repository);
  const report = (error: unknown, method: string): void =>
    log.error({ method, err: error }, 'a call failed by a defect of ours');
  const provider = await openProvider(settings, registry, log);
  const energy = await openServerEnergy(settings, registry, log);
  const transport = await openTransport(settings, { port: settings.port, log, registry, report }).catch(
    async (error: unknown) => {
      await energy.close();
      throw error;
    },
  );
  const workers = new WorkerMetrics(registry, log, settings.workers, () => runtime.processes());
  const instances = settings.instances ?? settings.workers;
  const runtime = createRuntime({
    workers: settings.workers,
    isolation: settings.isolation,
    runLimitMs: settings.runLimitMs,
    ...provider,
    onRestart: (restart) => workers.restarted(restart),
    ...(settings.threads ? { threads: settings.threads } : {}),
  });
  const images = new ImagePool(settings.imageWorkers);
  const objectives = settings.latencySlo;
  const controller = new LatencyController({ objectives, workers: settings.workers }, registry, log);
  const shadowing = new Shadowing({ share: settings.shadow, beside: energy.beside }, registry, log);
  const flops = executedFlops(registry);
  const metrics = new InferenceMetrics(registry, flops);
  const generationMetrics = new GenerationMetrics(registry, flops);
  const versions = new VersionMetrics(registry, controller);
  const removedVersions = new RemovedVersions(registry, (error) => report(error, 'ending the series of a version'));
  const warmUpSizes = settings.warmUp ? sizesToWarmUp(settings) : [];
  const catalog = new Catalog(
    repository,
    (entry, signal) => {
      const { version, manifest } = entry;
      const { model } = manifest;
      const account = (scheduler: Scheduler) => energy.account(model, version, scheduler);
      const spent = energy.accountGeneration(model, version);
      const watching = {
        observers: [
          ...(spent ? [spent] : []),
          ...(manifest.task === TEXT_GENERATION ? [generationMetrics.observer(manifest)] : []),
        ],
        energy: spent,
        report: (error: unknown) => report(error, 'an observer of generation'),
      };
      const loading = { ...settings, instances, warmUpSizes, account, ...watching };
      return energy.beside(() => loadVersion(repository, runtime, entry, loading, signal));
    },
    {
      changed: (changed) => {
        const listeners = [metrics, generationMetrics, versions, controller, shadowing, removedVersions];
        for (const listener of listeners) listener.changed(changed);
        transport.health.update(healthOf(changed));
      },
    },
    log,
    { control: settings.loadControl, atStart: settings.loadModels },
  );
  const maker = {
    maxBatch: settings.maxBatch,
    maxImagePixels: settings.maxImagePixels,
    budgets: controller,
    preprocess: images.preprocess.bind(images),
  };

  const statistics = new InferenceStatistics();
  const inference = new Inference(
    catalog,
    maker,
    [metrics, statistics, controller, shadowing],
    (error) => report(error, 'an observer of inferences'),
    shadowing,
  );
  const generation = new Generation(
    catalog,
    controller,
    [metrics, statistics, shadowing],
    (error) => report(error, 'an observer of generations'),
    (served) => served.energy?.openRequest(),
    shadowing,
  );
  const { streamWindow, textWindow } = settings;
  const streams = { inference, streamWindow, stopping: transport.stopping, report };
  transport.add(
    GRPCInferenceServiceDefinition,
    openInference({
      ...streams,
      generation,
      textWindow,
      catalog,
      statistics,
      facts: { ...settings, warmUpSizes },
      version: packageVersion(),
      ready: () => transport.health.serving,
    }),
  );
  const compare = compareCall({
    catalog,
    inference,
    generation,
    maker,
    allowance: new Allowance(settings.compareMaxBytes),
    maxSamples: settings.compareMaxSamples,
    idleMs: settings.compareIdleMs,
    meter: energy.meter,
    stopping: transport.stopping,
  });
  transport.add(
    ServingServiceDefinition,
    serving(catalog, repository, { compare, classify: classifyCall(streams), generate: generateCall(generation) }),
  );

  let endpoint: MetricsEndpoint | undefined;
  let grpcPort: number;
  try {
    endpoint = await serveMetrics(registry, settings.metricsPort, settings.metricsHost ?? settings.host);
    grpcPort = await transport.listen();
  } catch (error) {
    await Promise.all([endpoint?.close(), transport.stop(0), energy.close()]);
    throw error;
  }
  const ready = { event: 'ready', grpcPort, metricsPort: endpoint.port, repository: repository.directory };
  await Promise.race([catalog.sync(), aborted(signal)]);
  if (signal?.aborted !== true) {
    catalog.start(settings.pollMs);
    controller.start();
    transport.health.start();
    log.info(ready, 'serving');
  }

  const stop = async (): Promise<void> => {
    log.info({ event: 'stopping' }, 'stopping');
    await transport.stop(settings.drainMs);
    controller.stop();
    shadowing.stop();
    // Whoever was to be answered has been: what still runs is for nobody.
    await Promise.race([catalog.stop(), after(lastGraceMs)]);
    await Promise.all([runtime.close(lastGraceMs), images.close(), endpoint.close(), energy.close()]);
    log.info({ event: 'stopped' }, 'stopped');
  };
  let stopped: Promise<void> | undefined;
  return { grpcPort, metricsPort: endpoint.port, stop: () => (stopped ??= stop()) };
}

function after(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms).unref());
}

/** Never settles without a signal. */
function aborted(signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) resolve();
    else signal?.addEventListener('abort', () => resolve(), { once: true });
  });
}

/** From the package.json above this file, wherever it was compiled to. */
function packageVersion(): string {
  const require = createRequire(import.meta.url);
  for (const path of ['../../package.json', '../../../package.json']) {
    try {
      return (require(path) as { version: string }).version;
    } catch {
      continue;
    }
  }
  return 'unknown';
}
