import { availableParallelism } from 'node:os';
import { z } from 'zod';
import { invalid } from '../../libs/errors/error.js';

const port = z.int().min(0).max(65535);
const atLeastOne = z.int().min(1);

const schema = z.object({
  /** The model repository. */
  repository: z.string().min(1),
  /** The address that both ports listen on. */
  host: z.string().min(1).default('0.0.0.0'),
  /** gRPC; 0 takes a free one, which the log's `ready` line names. */
  port: port.default(8001),
  /** Prometheus; 0 takes a free one. */
  metricsPort: port.default(8002),
  /** Threads that run sessions; a version is pinned to one of them. */
  workers: atLeastOne.default(1),
  /** Threads of one inference. */
  threads: atLeastOne.optional(),
  /** Threads that preprocess encoded images. */
  imageWorkers: atLeastOne.default(() => Math.max(1, Math.floor(availableParallelism() / 2))),
  /** Milliseconds between two looks at the repository. */
  pollMs: z.int().min(10).default(1000),
  /** Bytes of the largest gRPC message taken. */
  maxMessageBytes: atLeastOne.default(64 * 1024 * 1024),
  /** Samples of the largest request. */
  maxBatch: atLeastOne.default(64),
  /** Requests of one stream that are worked on at a time. */
  streamWindow: atLeastOne.default(8),
  /** Milliseconds that a stop waits for the requests under way. */
  drainMs: z.int().min(0).default(30_000),
  logLevel: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'silent']).default('info'),
});

/** What a server can be told; everything but the repository has a default. */
export type ServerOptions = z.input<typeof schema>;

export type ServerSettings = z.output<typeof schema>;

/** Fills in the defaults. Throws INVALID_ARGUMENT naming the option. */
export function settingsOf(options: ServerOptions): ServerSettings {
  const parsed = schema.safeParse(options);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw invalid(`option ${issue?.path.join('.') || 'list'}: ${issue?.message ?? 'not as expected'}`, parsed.error);
}
