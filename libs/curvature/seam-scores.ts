import { asFloat32, type Checkpoint } from '../models/checkpoint.js';
import { specOf } from '../models/classifier.js';
import { loadGraph } from '../runtime/load-graph.js';
import type { TensorValue } from '../runtime/tensor.js';
import type { Dataset } from '../data/dataset.js';
import type { Samples } from './batches.js';
import { defaultBatch } from './defaults.js';
import type { CurvatureContext } from './estimate.js';
import { imageBatches } from './image-network.js';
import { Moments } from './moments.js';
import { addFeatures, checkSeams, featureCollectors, type SeamOptions } from './seam-curvature.js';
import type { SeamFeatures } from './seam-features.js';
import { seamGateGraph, seamNames } from './seam-graph.js';
import { probeSession } from './probe-graph.js';
import { measureInShards, type OpenMeasurement } from './shards.js';
import { drawSigns } from './signs.js';

export const SEAM_SCORES = ['heart', 'taylor'] as const;
export type SeamScoreKind = (typeof SEAM_SCORES)[number];

export interface SeamScoreOptions extends SeamOptions {
  /** Random sign vectors a sample and seam for `heart`. Default 8. */
  readonly probes?: number;
}

/** A published score of the tokens at one seam, under the cross-entropy of the true labels. */
export interface SeamScores extends SeamFeatures {
  /** [samples, tokens]; see `seamScores`. */
  readonly score: Float32Array;
}

/** A gradient below this is zero to float32. */
const leastGradient = 1e-12;
const usualProbes = 8;
/** Products of one run, for each seam. */
const mostUnrolled = 8;
/** Set apart from the streams of the gates' own scores. */
const stream = 16;

/**
 * `heart`: zᵀ H_z z for each token z at the seam, which is the second derivative by a gate on it (HEART-ViT, arXiv 2512.20120); it
 * may be negative. Estimated by random signs over the gates of one seam at a time. `taylor`: log |zᵀ ∂L/∂z|, first order, exact.
 * Throws INVALID_ARGUMENT (no labels), CANCELLED.
 */
export async function seamScores(
  kind: SeamScoreKind,
  checkpoint: Checkpoint,
  samples: Samples<Dataset>,
  options: SeamScoreOptions,
  context: CurvatureContext,
): Promise<SeamScores[]> {
  const plain = await asFloat32(checkpoint, context.workDirectory);
  const spec = specOf(plain);
  const { blocks, seed = 0 } = options;
  const { tokens } = spec;
  checkSeams(spec, samples, blocks);
  const probes = kind === 'heart' ? (options.probes ?? usualProbes) : 0;
  const total = samples.indices.length;
  const batch = Math.min(options.batch ?? defaultBatch(spec), total);
  const collectors = featureCollectors(spec, samples, options);
  const scores = blocks.map(() => new Float32Array(total * tokens));
  const settled: SettledSeamScores = { kind, blocks, seed, probes, batch, fitTokens: collectors[0]?.fitTokens ?? 0 };
  const parts = measureInShards(
    {
      measurement: 'seam-scores',
      options: settled,
      indices: samples.indices,
      batch,
      tokens,
      open: () => openSeamScores(plain, samples.dataset, settled, context),
    },
    { ...context, progress: (done) => context.progress?.({ stage: 'score', done, total, unit: 'samples' }) },
  );
  for await (const { start, part } of parts) {
    part.forEach((seam, stage) => {
      collectors[stage]!.append(start, seam);
      scores[stage]!.set(seam.score, start * tokens);
    });
  }
  return blocks.map((_, stage) => ({ ...collectors[stage]!.result(), score: scores[stage]! }));
}

/** Options as they are once the model and all samples are known: a shard needs no more. */
export interface SettledSeamScores {
  readonly kind: SeamScoreKind;
  readonly blocks: readonly number[];
  readonly seed: number;
  readonly probes: number;
  readonly batch: number;
  readonly fitTokens: number;
}

/** A shard of `seamScores`. The checkpoint is float32. */
export async function openSeamScores(
  checkpoint: Checkpoint,
  dataset: Dataset,
  options: SettledSeamScores,
  { runtime, workDirectory }: Pick<CurvatureContext, 'runtime' | 'workDirectory'>,
): Promise<OpenMeasurement<SeamScores[]>> {
  const { kind, blocks, seed, probes, batch } = options;
  const spec = specOf(checkpoint);
  const { tokens } = spec;
  const probing = { space: 'gates', directions: 'signs', count: Math.max(probes, 1) } as const;
  const runs = Math.max(1, Math.ceil(probes / mostUnrolled));
  const unrolled = Math.ceil(probes / runs);
  const graph = seamGateGraph(checkpoint, { blocks, probes: unrolled, batch });
  const session = await loadGraph(runtime, graph, workDirectory, probeSession);
  const row = (data: Float32Array): TensorValue => ({ type: 'float32', dims: [batch, tokens], data });
  const gates = Object.fromEntries(
    blocks.map((block) => [seamNames.gate(block), row(new Float32Array(batch * tokens).fill(1))]),
  );
  return {
    dispose: () => session.dispose(),
    async measure(indices, { signal, progress }) {
      const samples = { dataset, indices };
      const collectors = featureCollectors(spec, samples, options);
      const moments = blocks.map(() => new Moments(tokens, indices.length, probing, batch));
      for await (const part of imageBatches(spec, samples, { batch, labels: true, signal })) {
        const used = part.indices.length;
        for (let run = 0; run < runs; run++) {
          const signs = Array.from({ length: unrolled }, (_, k) => {
            const data = new Float32Array(batch * tokens);
            const probe = run * unrolled + k;
            // One beyond the last stays zero.
            if (probe >= probes) return data;
            part.indices.forEach((index, slot) =>
              drawSigns(data.subarray(slot * tokens, (slot + 1) * tokens), seed, stream, index, probe),
            );
            return data;
          });
          const feeds: Record<string, TensorValue> = { ...part.feeds, ...gates };
          signs.forEach((data, k) => (feeds[seamNames.direction(k)] = row(data)));
          const outputs = await session.run(feeds, signal ? { signal } : {});
          blocks.forEach((block, stage) => {
            signs.forEach((left, k) =>
              moments[stage]!.addProbe(left, outputs[seamNames.product(block, k)]!.data as Float32Array),
            );
            if (run > 0) return;
            addFeatures(collectors[stage]!, outputs, block, part);
            moments[stage]!.addGradient(outputs[seamNames.gradient(block)]!.data as Float32Array, part.start, used);
          });
        }
        for (const each of moments) each.endBatch(part.start, used);
        progress?.(part.start + used);
      }
      return blocks.map((_, stage) => {
        const { gradient, curvature } = moments[stage]!.result();
        const score =
          kind === 'heart' ? curvature : gradient.map((g) => Math.log(Math.max(Math.abs(g), leastGradient)));
        return { ...collectors[stage]!.result(), score: Float32Array.from(score) };
      });
    },
  };
}
