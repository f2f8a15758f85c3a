import { availableParallelism } from 'node:os';
import { z } from 'zod';
import { invalid } from '../../libs/errors/error.js';
import { transportShape } from '../grpc/settings.js';

const port = z.int().min(0).max(65535);
const atLeastOne = z.int().min(1);

const schema = z.object({
  ...transportShape,
  /** The model repository. */
  repository: z.string().min(1),
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
  /** Samples of the largest request. */
  maxBatch: atLeastOne.default(64),
  /** Pixels that the encoded images of one request may have in all; each may have as many as libs/data decodes. */
  maxImagePixels: atLeastOne.default(200_000_000),
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
