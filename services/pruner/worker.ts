import { createLogger } from '../../libs/telemetry/log.js';
import { optionError } from '../settings/option-error.js';
import { type EngineParts, once, startEngine } from './engine.js';
import { type WorkerOptions, workerSettingsOf } from './options.js';

export interface RunningWorker {
  readonly metricsPort: number;
  /** Takes no more jobs and shards; the job in hand stops at its last checkpoint, the shard in hand is given back. */
  stop(): Promise<void>;
}

/**
 * Starts a worker: more hands for the jobs of a PostgreSQL database. It takes shards of what pruners measure; with a repository to publish
 * into, whole jobs too. It must see the models and the data under the same paths as the pruner. When it is ready the log has a line with
 * `"event":"ready"` and `metricsPort`.
 * @throws HeartwoodError INVALID_ARGUMENT (an option; no database to share), UNAVAILABLE (a port or the database)
 */
export async function startWorker(options: WorkerOptions, parts: EngineParts = {}): Promise<RunningWorker> {
  const settings = workerSettingsOf(options);
  if (!settings.database)
    throw optionError(
      'database',
      "expected the pruner's postgres:// URL (or HEARTWOOD_DATABASE): the database inside a pruner is that process's alone",
    );
  const log = parts.logger ?? createLogger('heartwood-worker', settings.logLevel);
  const engine = await startEngine(settings, log, parts);
  const takes = settings.repository === undefined ? 'shards' : 'shards and jobs';
  log.info({ event: 'ready', metricsPort: engine.metricsPort, takes, repository: settings.repository }, 'working');
  return {
    metricsPort: engine.metricsPort,
    stop: once(async () => {
      log.info({ event: 'stopping' }, 'stopping');
      await engine.stop();
      log.info({ event: 'stopped' }, 'stopped');
    }),
  };
}
