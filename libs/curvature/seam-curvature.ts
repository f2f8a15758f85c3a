import { invalid } from '../errors/error.js';
import { asFloat32, type Checkpoint } from '../models/checkpoint.js';
import { specOf } from '../models/classifier.js';
import type { ClassifierSpec } from '../models/architectures/transformer.js';
import { loadGraph } from '../runtime/load-graph.js';
import type { TensorValue } from '../runtime/tensor.js';
import type { Dataset } from '../data/dataset.js';
import type { Samples } from './batches.js';
import { imageBatches } from './image-network.js';
import { defaultBatch } from './defaults.js';
import type { CurvatureContext } from './estimate.js';
import { probeSession } from './probe-graph.js';
import { FeatureCollector, fitTokensOf, type SeamFeatures } from './seam-features.js';
import { seamCurvatureGraph, seamNames } from './seam-graph.js';
import { measureInShards, type OpenMeasurement } from './shards.js';
import { drawSigns } from './signs.js';

export interface SeamOptions {
  /** Blocks between whose attention and MLP the seams are. */
  readonly blocks: readonly number[];
  /** Default 0. */
  readonly seed?: number;
  /** Patch tokens kept of each sample for fitting. Default: all while they take less than 64 MiB a block, else 32. */
  readonly fitTokens?: number;
  /** Samples of a run. Default: by tokens and memory. */
  readonly batch?: number;
}

export interface SeamCurvatureOptions extends SeamOptions {
  /** `exact`: one pullback a class; a number: so many random ones. Default: exact up to 32 classes, else 32. */
  readonly directions?: 'exact' | number;
}

/** What second order says of the tokens at one seam. */
export interface SeamCurvature extends SeamFeatures {
  /** Σ_c |G_c|²: the trace of the KL Fisher of each token's residual vector, in nats per squared length. [samples, tokens] */
  readonly trace: Float32Array;
  /** Mean over patch tokens of Σ_c G_cᵀ G_c / trace: the metric of the seam; its own trace is 1. [hidden, hidden], symmetric. */
  readonly metric: Float64Array;
}

/** More pullbacks than this in one graph would hold too much at once. */
const mostDirections = 64;
const fewClasses = 32;
/** Bytes that the pulled back cotangents of one run may take. */
const runBytes = 256 * 2 ** 20;

/**
 * The KL Fisher of tokens at seams, for the samples of a dataset without labels: F_x = Σ_c G_cᵀ G_c with G_c = ∂(R e_c · logits)/∂x,
 * R = diag(√p) − p√pᵀ, since Hessian of KL = JᵀRRᵀJ; for random signs r in place of the unit vectors the same in expectation. All
 * directions and seams share one forward part in one run a batch. One result for each of `blocks`, in their order.
 * Throws INVALID_ARGUMENT, CANCELLED.
 */
export async function seamCurvature(
  checkpoint: Checkpoint,
  samples: Samples<Dataset>,
  options: SeamCurvatureOptions,
  context: CurvatureContext,
): Promise<SeamCurvature[]> {
  const plain = await asFloat32(checkpoint, context.workDirectory);
  const spec = specOf(plain);
  const { blocks, seed = 0 } = options;
  checkSeams(spec, samples, blocks);
  const exact = options.directions === 'exact' || (options.directions === undefined && spec.classes <= fewClasses);
  const count = exact ? spec.classes : typeof options.directions === 'number' ? options.directions : fewClasses;
  if (!Number.isInteger(count) || count < 1 || count > mostDirections) {
    throw invalid(
      `directions: ${count}${exact ? ' classes' : ''}, expected 1 to ${mostDirections} (a number instead of exact)`,
    );
  }
  const perSample = spec.tokens * spec.hidden * 4 * count * blocks.length;
  const most = Math.max(1, Math.floor(runBytes / perSample));
  const batch = Math.min(options.batch ?? Math.min(defaultBatch(spec), most), samples.indices.length);
  const { tokens } = spec;
  const collectors = featureCollectors(spec, samples, options);
  const traces = blocks.map(() => new Float32Array(samples.indices.length * tokens));
  const metrics = blocks.map(() => new Float64Array(spec.hidden ** 2));
  const settled: SettledSeams = { blocks, seed, exact, count, batch, fitTokens: collectors[0]?.fitTokens ?? 0 };
  const total = samples.indices.length;
  const parts = measureInShards(
    {
      measurement: 'seam-curvature',
      options: settled,
      indices: samples.indices,
      batch,
      tokens,
      open: () => openSeamCurvature(plain, samples.dataset, settled, context),
    },
    { ...context, progress: (done) => context.progress?.({ stage: 'score', done, total, unit: 'samples' }) },
  );
  for await (const { start, part } of parts) {
    part.forEach((seam, stage) => {
      collectors[stage]!.append(start, seam);
      traces[stage]!.set(seam.trace, start * tokens);
      const metric = metrics[stage]!;
      for (let i = 0; i < metric.length; i++) metric[i]! += seam.metric[i]!;
    });
  }
  const patches = total * (tokens - spec.special);
  return blocks.map((_, stage) => ({
    ...collectors[stage]!.result(),
    trace: traces[stage]!,
    metric: metrics[stage]!.map((value) => value / patches),
  }));
}

/** Options as they are once the model and all samples are known: a shard needs no more. */
export interface SettledSeams {
  readonly blocks: readonly number[];
  readonly seed: number;
  /** Directions are unit vectors, one a class, in place of `count` random ones. */
  readonly exact: boolean;
  readonly count: number;
  readonly batch: number;
  readonly fitTokens: number;
}

/** A shard of `seamCurvature`, its `metric` a sum over the patch tokens. The checkpoint is float32. */
export async function openSeamCurvature(
  checkpoint: Checkpoint,
  dataset: Dataset,
  options: SettledSeams,
  { runtime, workDirectory }: Pick<CurvatureContext, 'runtime' | 'workDirectory'>,
): Promise<OpenMeasurement<SeamCurvature[]>> {
  const spec = specOf(checkpoint);
  const { blocks, seed, exact, count, batch } = options;
  const graph = seamCurvatureGraph(checkpoint, { blocks, directions: count, batch });
  const session = await loadGraph(runtime, graph, workDirectory, probeSession);
  const directionOf = (indices: readonly number[], c: number): TensorValue => {
    const data = new Float32Array(batch * spec.classes);
    indices.forEach((index, slot) => {
      const row = data.subarray(slot * spec.classes, (slot + 1) * spec.classes);
      if (exact) row[c] = 1;
      else drawSigns(row, seed, 0, index, c);
    });
    return { type: 'float32', dims: [batch, spec.classes], data };
  };
  return {
    dispose: () => session.dispose(),
    async measure(indices, { signal, progress }) {
      const samples = { dataset, indices };
      const collectors = featureCollectors(spec, samples, options);
      const traces = blocks.map(() => new Float32Array(indices.length * spec.tokens));
      const metrics = blocks.map(() => new Float64Array(spec.hidden ** 2));
      for await (const part of imageBatches(spec, samples, { batch, labels: false, signal })) {
        const used = part.indices.length;
        const weights = Float32Array.from({ length: batch }, (_, slot) => (slot < used ? 1 : 0));
        const feeds: Record<string, TensorValue> = {
          ...part.feeds,
          [seamNames.weights]: { type: 'float32', dims: [batch, 1], data: weights },
        };
        for (let c = 0; c < count; c++) feeds[seamNames.direction(c)] = directionOf(part.indices, c);
        const outputs = await session.run(feeds, signal ? { signal } : {});
        blocks.forEach((block, stage) => {
          addFeatures(collectors[stage]!, outputs, block, part);
          const trace = outputs[seamNames.trace(block)]!.data as Float32Array;
          const scale = exact ? 1 : 1 / count;
          const into = traces[stage]!;
          for (let i = 0; i < used * spec.tokens; i++) into[part.start * spec.tokens + i] = trace[i]! * scale;
          const metric = outputs[seamNames.metric(block)]!.data as Float32Array;
          for (let i = 0; i < metric.length; i++) metrics[stage]![i]! += metric[i]!;
        });
        progress?.(part.start + used);
      }
      return blocks.map((_, stage) => ({
        ...collectors[stage]!.result(),
        trace: traces[stage]!,
        metric: metrics[stage]!,
      }));
    },
  };
}

/** Throws INVALID_ARGUMENT unless there are samples, and the blocks are there. */
export function checkSeams(
  spec: ClassifierSpec,
  { dataset, indices }: Samples<Dataset>,
  blocks: readonly number[],
): void {
  if (indices.length === 0) throw invalid(`${dataset.name}: no samples, expected at least one`);
  const wrong = blocks.find((block) => !Number.isInteger(block) || block < 0 || block >= spec.blocks.length);
  if (wrong !== undefined) throw invalid(`blocks: ${wrong}, expected 0 to ${spec.blocks.length - 1}`);
}

/** A collector for each seam, empty yet. */
export function featureCollectors(
  spec: ClassifierSpec,
  { indices }: Samples<Dataset>,
  options: SeamOptions,
): FeatureCollector[] {
  const { tokens, special, hidden } = spec;
  const samples = indices.length;
  const fitTokens = fitTokensOf(samples, tokens - special, hidden, options.fitTokens);
  return options.blocks.map(
    (block) => new FeatureCollector({ block, tokens, special, hidden, samples, fitTokens }, options.seed ?? 0),
  );
}

/** The features of one seam that a run gave. */
export function addFeatures(
  collector: FeatureCollector,
  outputs: Readonly<Record<string, TensorValue>>,
  block: number,
  part: { readonly start: number; readonly indices: readonly number[] },
): void {
  const of = (name: string) => outputs[name]!.data as Float32Array;
  collector.add(part.start, part.indices, {
    x: of(seamNames.x(block)),
    classToken: of(seamNames.classToken(block)),
    meanToken: of(seamNames.meanToken(block)),
  });
}
