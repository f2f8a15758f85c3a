import { createLogger } from '../../libs/telemetry/log.js';
import { PruningServiceDefinition } from '../../proto/gen/heartwood/pruning/v1/pruning.js';
import { openTransport, type Transport } from '../grpc/transport.js';
import { type EngineParts, once, startEngine } from './engine.js';
import { type PrunerOptions, settingsOf } from './options.js';
import { pruningService } from './pruning-service.js';
import type { RunningWorker } from './worker.js';

export interface RunningPruner extends RunningWorker {
  readonly grpcPort: number;
}

/**
 * Starts a pruner: gRPC, metrics, and a worker that runs one job after the other. When it is ready the log has a line with
 * `"event":"ready"`, `grpcPort` and `metricsPort`.
 * @throws HeartwoodError INVALID_ARGUMENT (an option), UNAVAILABLE (a port or the database), FAILED_PRECONDITION (the data folder is
 *   another living pruner's, a provider that is required cannot be had)
 */
export async function startPruner(options: PrunerOptions, parts: EngineParts = {}): Promise<RunningPruner> {
  const settings = settingsOf(options);
  const log = parts.logger ?? createLogger('heartwood-pruner', settings.logLevel);
  const engine = await startEngine(settings, log, parts);
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
