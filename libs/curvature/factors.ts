import { internal } from '../errors/error.js';
import type { Checkpoint } from '../models/checkpoint.js';
import { specOf } from '../models/classifier.js';
import { type GateKind, unitsOf } from '../models/gates.js';
import { loadGraph } from '../runtime/load-graph.js';
import type { TensorValue } from '../runtime/tensor.js';
import { readBatches, type Samples } from './batches.js';
import { defaultBatch } from './defaults.js';
import type { CurvatureContext } from './estimate.js';
import { buildProbeGraph, names, probeSession } from './probe-graph.js';
import { drawSigns } from './signs.js';

/** A root of the mean KL Hessian over gates that all samples share: H ≈ UᵀU / K, interactions between kinds included. */
export interface CurvatureFactors {
  /** Gates of each kind, in the order of the columns. */
  readonly columns: readonly { readonly kind: GateKind; readonly gates: number }[];
  /** [K, Σ gates]. */
  readonly U: Float32Array;
  readonly K: number;
}

export interface FactorOptions {
  readonly kinds: readonly GateKind[];
  readonly seed: number;
  /** Bytes that U may take. Default 256 MiB. */
  readonly bytes?: number;
}

/** Directions of a run share its forward part. */
const unrolled = 8;
const mostClasses = 100;
/** More rows make what is chosen from them slower, and hardly better. */
const mostRows = 2048;
/** For fewer samples than these, one random direction each of many samples says more. */
const fewSamples = 64;

/**
 * The rows u = √C Jᵀ R d of as many samples as fit: for each of the C classes d = e_c (then UᵀU / K is the mean of JᵀFJ over those
 * samples, exactly), or where classes are many for one random sign vector a sample (C = 1; then it is so in expectation). Throws CANCELLED.
 */
export async function curvatureFactors(
  checkpoint: Checkpoint,
  samples: Samples,
  options: FactorOptions,
  context: CurvatureContext,
): Promise<CurvatureFactors> {
  const spec = specOf(checkpoint);
  const { kinds, seed, bytes = 256 * 2 ** 20 } = options;
  const columns = kinds.map((kind) => ({ kind, gates: unitsOf(spec, kind).reduce((a, b) => a + b, 0) }));
  const width = columns.reduce((sum, { gates }) => sum + gates, 0);
  const rows = Math.max(1, Math.min(mostRows, Math.floor(bytes / (4 * width))));
  const exact = spec.classes <= mostClasses && spec.classes * fewSamples <= rows;
  const indices = samples.indices.slice(0, exact ? Math.floor(rows / spec.classes) : rows);
  const directions = exact ? spec.classes : 1;
  const batch = Math.min(defaultBatch(spec), indices.length);
  const parallel = Math.min(unrolled, directions);
  const graph = buildProbeGraph(checkpoint, { kinds, loss: 'kl', space: 'classes', unrolled: parallel, batch });
  const session = await loadGraph(context.runtime, graph, context.workDirectory, probeSession);
  const U = new Float32Array(directions * indices.length * width);
  try {
    const gates: Record<string, TensorValue> = {};
    for (const { kind, gates: count } of columns) gates[kind] = tensor(batch, count, 1);
    const reader = { batch, image: spec.image, classes: spec.classes, labels: false, signal: context.signal };
    for await (const part of readBatches({ ...samples, indices }, reader)) {
      for (let first = 0; first < directions; first += parallel) {
        const feeds: Record<string, TensorValue> = { [names.pixels]: part.pixels, ...gates };
        for (let k = 0; k < parallel; k++) {
          const given = tensor(batch, spec.classes, 0);
          const data = given.data as Float32Array;
          part.indices.forEach((index, slot) => {
            const row = data.subarray(slot * spec.classes, (slot + 1) * spec.classes);
            if (!exact) drawSigns(row, seed, 0, index, 0);
            else if (first + k < directions) row[first + k] = 1;
          });
          feeds[names.direction(k)] = given;
        }
        const outputs = await session.run(feeds);
        for (let k = 0; k < parallel && first + k < directions; k++) {
          let column = 0;
          for (const { kind, gates: count } of columns) {
            const product = outputs[names.product(kind, k)]?.data;
            if (!(product instanceof Float32Array)) throw internal(`the graph gave no product ${k} of ${kind}`);
            part.indices.forEach((_, slot) => {
              const row = (part.start + slot) * directions + first + k;
              const from = product.subarray(slot * count, (slot + 1) * count);
              // The sum over a sample's directions, as a mean over rows.
              for (let i = 0; i < count; i++) U[row * width + column + i] = from[i]! * Math.sqrt(directions);
            });
            column += count;
          }
        }
      }
      const done = part.start + part.indices.length;
      context.progress?.({ stage: 'score', done, total: indices.length, unit: 'samples' });
    }
  } finally {
    await session.dispose();
  }
  return { columns, U, K: directions * indices.length };
}

function tensor(batch: number, width: number, value: number): TensorValue {
  return { type: 'float32', dims: [batch, width], data: new Float32Array(batch * width).fill(value) };
}
