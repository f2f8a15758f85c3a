import { integerIn, randomFor } from '../../../libs/data/random.js';
import { internal } from '../../../libs/errors/error.js';
import { GraphBuilder } from '../../../libs/onnx/builder.js';
import { encodeModel } from '../../../libs/onnx/encode.js';
import { relu } from '../../../libs/onnx/ops/arithmetic.js';
import { createRuntime, type Runtime } from '../../../libs/runtime/runtime.js';
import { type Manifest, TEXT_GENERATION } from '../../../libs/store/manifest.js';
import type { Repository } from '../../../libs/store/repository.js';
import type { VersionEntry } from '../../../libs/store/snapshot.js';
import {
  asLanguageModel,
  loadVersion as loadServed,
  type ServedLanguageModel,
} from '../../server/catalog/served-version.js';
import { greedy } from '../../server/generation/request.js';
import type { ServerSettings } from '../../server/options.js';
import { loadVersion } from '../measure/loaded-version.js';
import { quantile } from '../measure/statistics.js';
import type { Footprint, RunFootprint, TextFootprint } from './footprint.js';
import { forgetPeak, memoryOf } from './process-memory.js';

/** Runs of each kind; the first also lets the arena grow to what they take. */
const rounds = 5;
/** Tokens of the prompt that is timed, and drawn after it. */
const promptTokens = 256;
const drawnTokens = 32;

/**
 * Loads a version into a worker process of its own and runs it: what it takes is the difference to the same process before.
 * @param settings threads, samples of a run, and the rows of the caches, as a server would have them
 * Throws as the load of a version does, and UNIMPLEMENTED where there is no /proc.
 */
export async function measureFootprint(
  repository: Repository,
  entry: VersionEntry,
  settings: ServerSettings,
  signal: AbortSignal,
): Promise<Footprint> {
  const { manifest, version } = entry;
  const runtime = createRuntime({
    workers: 1,
    isolation: 'process',
    ...(settings.threads === undefined ? {} : { threads: settings.threads }),
  });
  try {
    const pid = await startedWorker(runtime);
    const { residentBytes: startedBytes } = await memoryOf(pid);
    await forgetPeak(pid);
    const parts =
      manifest.task === TEXT_GENERATION
        ? await textParts(repository, runtime, entry, settings, pid, signal)
        : await imageParts(repository, runtime, manifest, settings, pid, signal);
    const { loaded, runs, text } = parts;
    return {
      model: manifest.model,
      version,
      task: manifest.task,
      policy: manifest.method?.policy ?? 'unpruned',
      loadedBytes: loaded.residentBytes - startedBytes,
      loadingBytes: loaded.peakBytes - loaded.residentBytes,
      runs,
      text,
    };
  } finally {
    await runtime.close();
  }
}

interface Parts {
  readonly loaded: { readonly residentBytes: number; readonly peakBytes: number };
  readonly runs: readonly RunFootprint[];
  readonly text: TextFootprint | null;
}

/** The process of the one worker, with the runtime in it and next to no model. */
async function startedWorker(runtime: Runtime): Promise<number> {
  const g = new GraphBuilder('nothing');
  const graph = g.build([relu(g, g.input('x', 'float32', [1]))]);
  const session = await runtime.load(encodeModel(graph, () => undefined));
  await session.run({ x: { type: 'float32', dims: [1], data: new Float32Array(1) } });
  await session.dispose();
  const [pid] = runtime.processes().values();
  if (pid === undefined) throw internal('a worker process has no number');
  return pid;
}

async function imageParts(
  repository: Repository,
  runtime: Runtime,
  manifest: Exclude<Manifest, { task: typeof TEXT_GENERATION }>,
  { runBatch }: ServerSettings,
  pid: number,
  signal: AbortSignal,
): Promise<Parts> {
  const version = await loadVersion(repository, runtime, manifest.model, manifest.version, { signal });
  const loaded = await memoryOf(pid);
  const { channels, height, width } = manifest.input;
  const random = randomFor(1);
  const runs: RunFootprint[] = [];
  for (const batch of new Set([1, runBatch])) {
    // Noise, so that what depends on the data (which tokens are merged) has something to go by.
    const pixels = Float32Array.from(
      { length: batch * channels * height * width },
      () => integerIn(random, -1000, 1000) / 1000,
    );
    await forgetPeak(pid);
    const durations: number[] = [];
    for (let round = 0; round < rounds; round++)
      durations.push((await version.classify(pixels, batch, signal)).durationMs);
    const { peakBytes } = await memoryOf(pid);
    runs.push({ batch, bytes: Math.max(0, peakBytes - loaded.residentBytes), ms: medianAfterFirst(durations) });
  }
  return { loaded, runs, text: null };
}

async function textParts(
  repository: Repository,
  runtime: Runtime,
  entry: VersionEntry,
  settings: ServerSettings,
  pid: number,
  signal: AbortSignal,
): Promise<Parts> {
  const load = { ...settings, instances: 1, warmUpSizes: [], warmUp: false };
  const served = asLanguageModel(await loadServed(repository, runtime, entry, load, signal));
  try {
    const loaded = await memoryOf(pid);
    await forgetPeak(pid);
    const { load: cache, context } = served.engine;
    const prompt = Math.max(1, Math.min(promptTokens, context - drawnTokens));
    const timings: { readonly prefillMs: number; readonly tokenMs: number }[] = [];
    for (let round = 0; round < rounds; round++) timings.push(await timedText(served, prompt, round, signal));
    const { peakBytes } = await memoryOf(pid);
    const rowBytes = cache.cacheBytes / cache.rows;
    const tokenMs = medianAfterFirst(timings.map((timing) => timing.tokenMs));
    const prefillMs = medianAfterFirst(timings.map((timing) => timing.prefillMs));
    // What the one row that was written holds is counted with the caches.
    const written = (rowBytes * Math.min(context, prompt + drawnTokens)) / context;
    const bytes = Math.max(0, peakBytes - loaded.residentBytes - written);
    return {
      loaded,
      runs: [{ batch: 1, bytes, ms: tokenMs }],
      text: {
        context,
        rows: cache.rows,
        rowBytes,
        cacheBytes: cache.cacheBytes,
        prefillTokensPerSecond: (1000 * prompt) / prefillMs,
        decodeTokensPerSecond: 1000 / tokenMs,
      },
    };
  } finally {
    await served.retire();
  }
}

/** A text of made-up tokens; another one each round, so that none is taken over from the cache. */
async function timedText(
  { engine, manifest }: ServedLanguageModel,
  length: number,
  round: number,
  signal: AbortSignal,
): Promise<{ readonly prefillMs: number; readonly tokenMs: number }> {
  const random = randomFor(round);
  const prompt = Array.from({ length }, () => integerIn(random, 0, manifest.text.vocabulary - 1));
  const request = { prompt, sampling: greedy, maxTokens: drawnTokens, ignoreEos: true };
  for await (const event of engine.generate(request, signal)) {
    if (event.kind !== 'end') continue;
    const { queueMs, firstTokenMs, totalMs } = event.timing;
    const later = Math.max(1, event.usage.completionTokens - 1);
    return { prefillMs: firstTokenMs - queueMs, tokenMs: (totalMs - firstTokenMs) / later };
  }
  throw internal('a text had no end');
}

/** The first of them also allocates. */
function medianAfterFirst(durations: readonly number[]): number {
  return quantile(durations.slice(1), 0.5);
}
