import { availableParallelism } from 'node:os';
import { z } from 'zod';
import { highestSampleHz } from '../../libs/energy/meter.js';
import { meterChoices } from '../../libs/energy/meters/index.js';
import { isolations } from '../../libs/runtime/carrier.js';
import { transportShape } from '../grpc/settings.js';
import { milliseconds, millisecondsOrNone, pollMilliseconds, positiveMilliseconds } from '../settings/milliseconds.js';
import { optionError, optionErrorOf } from '../settings/option-error.js';
import { providerShape } from '../settings/provider.js';
import { generationSchema } from './generation/settings.js';
import { ladderUses } from './catalog/ladder-session.js';
import { loadControls } from './catalog/load-control.js';
import { schedulingSchema } from './scheduling/settings.js';

const port = z.int().min(0).max(65535);
const atLeastOne = z.int().min(1);

const schema = z.object({
  ...transportShape,
  ...providerShape,
  /** The model repository. */
  repository: z.string().min(1),
  /** gRPC; 0 takes a free one, which the log's `ready` line names. */
  port: port.default(8001),
  /** Prometheus; 0 takes a free one. */
  metricsPort: port.default(8002),
  /** Workers that run models. By default one for every four cores. */
  workers: atLeastOne.default(() => Math.max(1, Math.floor(availableParallelism() / 4))),
  /** Threads of one inference. By default the cores over the workers. */
  threads: atLeastOne.optional(),
  /** Workers that each version is loaded on, so that as many of its runs go side by side. By default all of them. */
  instances: atLeastOne.optional(),
  /** What a worker runs in; libs/runtime/carrier.ts says which faults need a process. */
  isolation: z.enum(isolations).default('thread'),
  /** Milliseconds that one load or run may take where workers are processes; beyond it the worker is ended and replaced. */
  runLimitMs: milliseconds.default(600_000),
  ...schedulingSchema,
  ...generationSchema,
  /** Threads that preprocess encoded images. */
  imageWorkers: atLeastOne.default(() => Math.max(1, Math.floor(availableParallelism() / 2))),
  /** What loads a version: nothing after the start, the repository, or a call of RepositoryModelLoad. */
  loadControl: z.enum(loadControls).default('poll'),
  /** With explicit load control: the models that are loaded at the start; `*` stands for all. */
  loadModels: z.array(z.string().min(1)).default([]),
  /** Milliseconds between two looks at the repository, where it is polled. */
  pollMs: pollMilliseconds.default(1000),
  /** When a version that has a ladder (the same model at fixed counts of tokens) is served by it: where the provider wants fixed shapes, always, never. */
  ladder: z.enum(ladderUses).default('auto'),
  /** Whether a version runs made-up samples before it is ready. */
  warmUp: z.boolean().default(true),
  /** Samples of the largest request. */
  maxBatch: atLeastOne.default(64),
  /** Pixels that the encoded images of one request may have in all; each may have as many as libs/data decodes. */
  maxImagePixels: atLeastOne.default(200_000_000),
  /** Requests of one stream that are worked on at a time. */
  streamWindow: atLeastOne.default(8),
  /** Texts of one stream that are generated at a time. */
  textWindow: atLeastOne.default(32),
  /** Samples of a comparison (ServingService.Compare). */
  compareMaxSamples: atLeastOne.default(10_000),
  /** Bytes that the samples of all comparisons may hold. */
  compareMaxBytes: atLeastOne.default(256 * 1024 * 1024),
  /** Milliseconds that a client may take to send the next sample of a comparison. */
  compareIdleMs: milliseconds.default(60_000),
  /** Milliseconds that a stop waits for the requests under way. */
  drainMs: millisecondsOrNone.default(30_000),
  /** Latencies that 95 % of the calls are to keep; the budget moves between a version's default and its ceiling for it. */
  latencySlo: z
    .array(z.object({ model: z.string().min(1).nullable(), ms: positiveMilliseconds }))
    .refine((list) => new Set(list.map(({ model }) => model)).size === list.length, 'two objectives for one model')
    .default([]),
  /** Share of the answered calls, texts too, that version 1 runs as well, to be compared. */
  shadow: z.number().min(0).max(1).default(0),
  /** The energy meter: the first that is found, none, or one by name. */
  energyMeter: z.enum(meterChoices).default('auto'),
  /** Readings of it a second. */
  energySampleHz: z.number().positive().max(highestSampleHz).default(20),
  /** Where the `/sys` of the machine is: a container may have it mounted elsewhere. */
  energyRoot: z.string().min(1).default('/'),
  logLevel: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'silent']).default('info'),
});

/** What a server can be told; everything but the repository has a default. */
export type ServerOptions = z.input<typeof schema>;

export type ServerSettings = z.output<typeof schema>;

/** Fills in the defaults. Throws INVALID_ARGUMENT naming the option. */
export function settingsOf(options: ServerOptions): ServerSettings {
  const parsed = schema.safeParse(options);
  if (parsed.success) {
    const { loadControl, loadModels } = parsed.data;
    if (loadModels.length > 0 && loadControl !== 'explicit')
      throw optionError('loadModels', `expected none with load control ${loadControl}, it is for explicit`);
    return parsed.data;
  }
  throw optionErrorOf(parsed.error);
}
