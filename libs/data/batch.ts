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

/** Shares of the samples, each above 0. */
export interface Fractions {
  readonly fit: number;
  readonly search: number;
  readonly certify: number;
}

/**
 * Splits 0 … size − 1 into three disjoint parts by seed: a random order, cut at the cumulated fractions. Fractions that add up
 * to less than 1 leave samples out. Throws INVALID_ARGUMENT unless they are positive and add up to at most 1, or where a part
 * would be empty; `name` is what an error calls the data.
 */
export function splitIndices(size: number, seed: number, fractions: Fractions, name = 'the data'): Parts {
  const { fit, search, certify } = fractions;
  const total = fit + search + certify;
  if (!(fit > 0 && search > 0 && certify > 0 && total <= 1 + 1e-9)) {
    throw invalid(`fractions ${fit}, ${search}, ${certify} are not positive numbers that add up to at most 1`);
  }
  const [first, second, third] = cutsOf(size, fractions);
  if (first === 0 || first === second || second === third) {
    const part = first === 0 ? 'fit' : first === second ? 'search' : 'certify';
    throw invalid(
      `${name}: ${size} samples are too few to split, expected at least ${enough(size, fractions)}: ` +
        `the part '${part}' would be empty`,
    );
  }
  const order = [...permutation(size, randomFor(seed, size))];
  return { fit: order.slice(0, first), search: order.slice(first, second), certify: order.slice(second, third) };
}

/** Where each part ends, of so many samples. */
function cutsOf(size: number, { fit, search, certify }: Fractions): [number, number, number] {
  const at = (fraction: number) => Math.min(size, Math.round(fraction * size));
  return [at(fit), at(fit + search), at(fit + search + certify)];
}

/** A number of samples above `size` that leaves no part empty: the lowest, where it is near. */
function enough(size: number, fractions: Fractions): number {
  // From here on every part is a whole sample long, wherever the cuts are rounded to.
  const sure = Math.ceil(1 / Math.min(fractions.fit, fractions.search, fractions.certify));
  for (let count = size + 1; count < Math.min(sure, size + 10_000); count++) {
    const [first, second, third] = cutsOf(count, fractions);
    if (0 < first && first < second && second < third) return count;
  }
  return Math.max(sure, size + 1);
}
