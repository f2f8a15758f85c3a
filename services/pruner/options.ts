import { isAbsolute } from 'node:path';
import { z } from 'zod';
import { optionErrorOf } from '../settings/option-error.js';
import { transportShape } from '../grpc/settings.js';
import { millisecondsOrNone, pollMilliseconds } from '../settings/milliseconds.js';
import { providerShape } from '../settings/provider.js';

const port = z.int().min(0).max(65535);
const atLeastOne = z.int().min(1);
const roots = z.array(z.string().refine(isAbsolute, 'expected the absolute path of a folder')).min(1).optional();

/** What a pruner and a worker share. */
const engineShape = {
  ...providerShape,
  /** The model repository; made when it is missing. */
  repository: z.string().min(1).optional(),
  /** Folder of the embedded database and of the files that jobs keep until they have ended. */
  dataDirectory: z.string().min(1).optional(),
  /** `postgres://…`; a database inside this process when absent. */
  database: z.string().min(1, 'expected a URL such as postgres://user@host:5432/name, got an empty text').optional(),
  /** Folders below which jobs may name models, and calibration data; anywhere when absent. */
  modelRoots: roots,
  dataRoots: roots,
  /** Address of the metrics, where they have none of their own. */
  host: transportShape.host,
  metricsHost: transportShape.metricsHost,
  /** Prometheus; 0 takes a free one. */
  metricsPort: port.default(8004),
  /** Worker threads that run ONNX Runtime sessions. */
  workers: atLeastOne.default(1),
  /** Threads of one run of a session. */
  threads: atLeastOne.optional(),
  /** Seconds that a job or a shard stays with a worker that gives no sign of life. */
  leaseSeconds: z.number().positive().default(30),
  /** Milliseconds between two writings of a running job's progress. */
  heartbeatMs: pollMilliseconds.default(500),
  /** Milliseconds between two looks for jobs and shards of other processes. */
  pollMs: pollMilliseconds.default(1000),
  /** How often in a row workers may die in the same stage of a job before it fails, and a shard may fail or its worker die. */
  maxDeaths: atLeastOne.default(3),
  logLevel: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'silent']).default('info'),
};

const workerSchema = z.object(engineShape);

const schema = z.object({
  ...transportShape,
  ...engineShape,
  repository: z.string().min(1),
  dataDirectory: z.string().min(1),
  /** gRPC; 0 takes a free one, which the log's `ready` line names. */
  port: port.default(8003),
  /** Milliseconds that calls under way get at a stop. */
  drainMs: millisecondsOrNone.default(5000),
});

export type WorkerOptions = z.input<typeof workerSchema>;
export type EngineSettings = z.output<typeof workerSchema>;
export type PrunerOptions = z.input<typeof schema>;
export type PrunerSettings = z.output<typeof schema>;

/** Fills in the defaults. @throws HeartwoodError INVALID_ARGUMENT naming the option */
export function settingsOf(options: PrunerOptions): PrunerSettings {
  const parsed = schema.safeParse(options);
  if (parsed.success) return parsed.data;
  throw optionErrorOf(parsed.error);
}

/** The same of a worker. */
export function workerSettingsOf(options: WorkerOptions): EngineSettings {
  const parsed = workerSchema.safeParse(options);
  if (parsed.success) return parsed.data;
  throw optionErrorOf(parsed.error);
}
