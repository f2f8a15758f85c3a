import { isAbsolute } from 'node:path';
import { z } from 'zod';
import { optionErrorOf } from '../settings/option-error.js';
import { transportShape } from '../grpc/settings.js';
import { millisecondsOrNone, pollMilliseconds } from '../settings/milliseconds.js';
import { providerShape } from '../settings/provider.js';

const port = z.int().min(0).max(65535);
const atLeastOne = z.int().min(1);
const roots = z.array(z.string().refine(isAbsolute, 'expected the absolute path of a folder')).min(1).optional();

const schema = z.object({
  ...transportShape,
  ...providerShape,
  /** The model repository; made when it is missing. */
  repository: z.string().min(1),
  /** Folder of the embedded database and of the files that jobs keep until they have ended. */
  dataDirectory: z.string().min(1),
  /** `postgres://…`; a database inside this process when absent. */
  database: z.string().min(1).optional(),
  /** Folders below which requests may name models, and calibration data; anywhere when absent. */
  modelRoots: roots,
  dataRoots: roots,
  /** gRPC; 0 takes a free one, which the log's `ready` line names. */
  port: port.default(8003),
  /** Prometheus; 0 takes a free one. */
  metricsPort: port.default(8004),
  /** Worker threads that run ONNX Runtime sessions. */
  workers: atLeastOne.default(1),
  /** Threads of one run of a session. */
  threads: atLeastOne.optional(),
  /** Seconds that a job stays with a worker that gives no sign of life. */
  leaseSeconds: z.number().positive().default(30),
  /** Milliseconds between two writings of a running job's progress. */
  heartbeatMs: pollMilliseconds.default(500),
  /** Milliseconds between two looks for jobs of other processes. */
  pollMs: pollMilliseconds.default(1000),
  /** How often in a row workers may die in the same stage of a job before it fails. */
  maxDeaths: atLeastOne.default(3),
  /** Milliseconds that calls under way get at a stop. */
  drainMs: millisecondsOrNone.default(5000),
  logLevel: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'silent']).default('info'),
});

export type PrunerOptions = z.input<typeof schema>;
export type PrunerSettings = z.output<typeof schema>;

/** Fills in the defaults. @throws HeartwoodError INVALID_ARGUMENT naming the option */
export function settingsOf(options: PrunerOptions): PrunerSettings {
  const parsed = schema.safeParse(options);
  if (parsed.success) return parsed.data;
  throw optionErrorOf(parsed.error);
}
