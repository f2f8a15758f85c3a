/** Batches of samples, and the parts of a dataset that calibration needs. */
import { invalid } from '../errors/error.js';
import type { Dataset, LabelledSample } from './dataset.js';
import { permutation, randomFor } from './random.js';

/** Samples that are decoded side by side: enough for libvips' threads, few enough that memory stays flat. */
const atOnce = 16;

export interface Batch {
  /** [n, C, H, W]. */
  readonly pixels: Float32Array;
  /** [n]; absent when the dataset has no labels. */
  readonly labels?: Int32Array;
}

/** Reads samples into one tensor, in the order of `indices`. Throws what `Dataset.read` throws. */
export async function readBatch(dataset: Dataset, indices: readonly number[]): Promise<Batch> {
  let pixels = new Float32Array(0);
  let stride = 0;
  const labels = dataset.labelled ? new Int32Array(indices.length) : undefined;
  for (let from = 0; from < indices.length; from += atOnce) {
    const samples = await Promise.all(indices.slice(from, from + atOnce).map((index) => dataset.read(index)));
    samples.forEach((sample: LabelledSample, at) => {
      if (stride === 0) {
        stride = sample.pixels.length;
        pixels = new Float32Array(stride * indices.length);
      }
      if (sample.pixels.length !== stride)
        throw invalid(`${sample.name} has ${sample.pixels.length} values, expected ${stride}`);
      pixels.set(sample.pixels, (from + at) * stride);
      if (labels) labels[from + at] = sample.label ?? -1;
    });
  }
  return labels ? { pixels, labels } : { pixels };
}

export interface Parts {
  readonly fit: number[];
  readonly search: number[];
  readonly certify: number[];
}

/**
 * Splits 0 … size − 1 into three disjoint parts by seed: a random order, cut at the cumulated fractions. Fractions that add up
 * to less than 1 leave samples out. Throws INVALID_ARGUMENT unless they are positive and add up to at most 1, or where a part
 * would be empty.
 */
export function splitIndices(
  size: number,
  seed: number,
  fractions: { fit: number; search: number; certify: number },
): Parts {
  const { fit, search, certify } = fractions;
  const total = fit + search + certify;
  if (!(fit > 0 && search > 0 && certify > 0 && total <= 1 + 1e-9)) {
    throw invalid(`fractions ${fit}, ${search}, ${certify} are not positive numbers that add up to at most 1`);
  }
  const order = [...permutation(size, randomFor(seed, size))];
  const cuts = [fit, fit + search, total].map((fraction) => Math.min(size, Math.round(fraction * size)));
  const [first = 0, second = 0, third = 0] = cuts;
  const parts = { fit: order.slice(0, first), search: order.slice(first, second), certify: order.slice(second, third) };
  for (const [name, part] of Object.entries(parts)) {
    if (part.length === 0) throw invalid(`${size} samples are too few to split: the part '${name}' would be empty`);
  }
  return parts;
}
