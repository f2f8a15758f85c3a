import { createHash } from 'node:crypto';
import { arithmeticOf } from '../curvature/arithmetic.js';
import { openMeasurement } from '../curvature/measurements.js';
import type { OpenMeasurement, ShardedRequest, Sharing } from '../curvature/shards.js';
import type { DatasetOf } from '../data/dataset.js';
import { openDataset } from '../data/open.js';
import { messageOf } from '../errors/error.js';
import { taskOf } from '../models/architectures/index.js';
import { openCheckpoint, type Checkpoint } from '../models/checkpoint.js';
import type { Runtime } from '../runtime/runtime.js';
import { withThreads } from '../runtime/with-threads.js';
import { canonicalJson } from '../store/jobs/canonical-json.js';
import { ShardRefused } from '../store/jobs/held-shard.js';
import type { ShardWork } from '../store/jobs/shard-worker.js';
import type { PruneContext, PruneRequest } from './request.js';
import { openWindows } from './text/data.js';

/** What a worker reads of a shard: all that it is to measure, and the digests of what it is to measure it with. */
interface ShardContent extends Pick<ShardedRequest, 'measurement' | 'options'> {
  readonly model: { readonly directory: string; readonly digest: string; readonly preprocessing: string };
  readonly data: { readonly path: string; readonly digest: string; readonly window: number | null };
  readonly indices: readonly number[];
  /** How the job's process computes: its threads of a run, and what that comes to (`arithmeticOf`). */
  readonly threads: number;
  readonly arithmetic: string;
}

/** How a job takes its measurements: in shards, by this process and, where the work is shared, by whoever else has hands. */
export function sharingOf(
  request: PruneRequest,
  checkpoint: Checkpoint,
  dataset: DatasetOf<unknown>,
  { shared, runtime }: Pick<PruneContext, 'shared' | 'runtime'>,
): Sharing {
  const samples = request.shardSamples;
  if (!shared) return { samples };
  const model = {
    directory: request.modelDirectory,
    digest: checkpoint.digest,
    preprocessing: preprocessingOf(checkpoint),
  };
  const data = { path: request.data, digest: dataset.digest, window: request.window ?? null };
  return {
    samples,
    async *run({ measurement, options, shards }, here, { progress }) {
      const computing = { threads: runtime.threads, arithmetic: await arithmeticOf(runtime) };
      const common = { measurement, options, model, data, ...computing };
      const contents = shards.map((indices): ShardContent => ({ ...common, indices }));
      const largest = Math.max(...shards.map(({ length }) => length));
      const all = shards.reduce((sum, { length }) => sum + length, 0);
      yield* shared.run(
        contents,
        (part, signal) => here(part, { signal }),
        (done) => progress?.(Math.min(all, done * largest)),
      );
    },
  };
}

export interface ShardContext {
  readonly runtime: Runtime;
  /** The most threads of a run that this process may have; as many as a job says when absent. */
  readonly mostThreads?: number | undefined;
  readonly workDirectory: string;
  /** Rejects where this process is not to read what a job names. */
  readonly allowed?: (paths: Pick<PruneRequest, 'modelDirectory' | 'data'>) => Promise<void>;
}

/**
 * The work on shards of other processes' jobs. What the last shard was measured with stays open for the next one of the same measurement.
 * A shard whose model or data this process cannot read, or reads otherwise than the job did, is refused with the reason.
 */
export function shardMeasuring(context: ShardContext): ShardWork {
  let open: { readonly key: string; readonly measurement: OpenMeasurement<unknown> } | undefined;
  const rest = async () => {
    const last = open;
    open = undefined;
    await last?.measurement.dispose();
  };
  return {
    rest,
    async take(content, signal) {
      const { indices, ...common } = content as ShardContent;
      const key = JSON.stringify(common);
      if (open?.key !== key) {
        await rest();
        open = { key, measurement: await openShard(common, context) };
      }
      return open.measurement.measure(indices, { signal });
    },
  };
}

async function openShard(
  { measurement, options, model, data, threads, arithmetic }: Omit<ShardContent, 'indices'>,
  { runtime, mostThreads = Infinity, allowed, workDirectory }: ShardContext,
): Promise<OpenMeasurement<unknown>> {
  if (threads > mostThreads)
    throw new ShardRefused(
      `the job computes with ${threads} threads a run, on which last bits depend, and this process has ${mostThreads} (--threads)`,
    );
  const asTheJob = withThreads(runtime, threads);
  const reading = async () => {
    if ((await arithmeticOf(asTheJob)) !== arithmetic)
      throw new ShardRefused(
        'this process rounds otherwise than the one that has the job: expected the same kind of processor, provider and release',
      );
    await allowed?.({ modelDirectory: model.directory, data: data.path });
    return readAsAsked(model, data);
  };
  const { checkpoint, dataset } = await reading().catch((error: unknown) => {
    if (error instanceof ShardRefused) throw error;
    throw new ShardRefused(messageOf(error), { cause: error });
  });
  return openMeasurement({ measurement, options }, checkpoint, dataset, { runtime: asTheJob, workDirectory });
}

/** Opens model and data. Throws ShardRefused where they are not what the job's are, and what opening them throws. */
async function readAsAsked(model: ShardContent['model'], data: ShardContent['data']) {
  const checkpoint = await openCheckpoint(model.directory);
  same(model.directory, checkpoint.digest, model.digest);
  same(`${model.directory}: what is done to images first`, preprocessingOf(checkpoint), model.preprocessing);
  const classes = checkpoint.labels;
  const dataset =
    taskOf(checkpoint) === 'text-generation'
      ? await openWindows(checkpoint, data.path, data.window ?? undefined)
      : await openDataset(data.path, checkpoint.preprocessing, classes.length > 0 ? { classes } : {});
  same(data.path, dataset.digest, data.digest);
  return { checkpoint, dataset };
}

/** The digest of the model's files holds the weights and their names, not what becomes of an image before it is fed. */
function preprocessingOf({ preprocessing }: Checkpoint): string {
  return createHash('sha256').update(canonicalJson(preprocessing)).digest('hex');
}

function same(path: string, found: string, expected: string): void {
  if (found === expected) return;
  const short = (digest: string) => digest.slice(0, 12);
  throw new ShardRefused(`${path}: has the digest ${short(found)}… here, expected ${short(expected)}…, the job's`);
}
