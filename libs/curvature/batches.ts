import { readBatch } from '../data/batch.js';
import type { Dataset } from '../data/dataset.js';
import { HeartwoodError, invalid } from '../errors/error.js';
import type { TensorValue } from '../runtime/tensor.js';

/** Samples of a dataset, in an order. */
export interface Samples {
  readonly dataset: Dataset;
  readonly indices: readonly number[];
}

/** Samples for one run. Graphs have a fixed batch: a last batch that is shorter is filled up with its last sample. */
export interface SampleBatch {
  /** Position of the first in `Samples.indices`. */
  readonly start: number;
  /** Indices of those that count. */
  readonly indices: readonly number[];
  /** [batch, C, H, W], filled up. */
  readonly pixels: TensorValue;
  /** One-hot rows [batch, classes], filled up; undefined unless labels were asked for. */
  readonly targets: TensorValue | undefined;
}

export interface BatchOptions {
  readonly batch: number;
  readonly image: { readonly height: number; readonly width: number; readonly channels: number };
  readonly classes: number;
  readonly labels: boolean;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Reads samples batch by batch, the next one while the caller works. Throws INVALID_ARGUMENT for samples that do not fit the model,
 * or that lack a label which is asked for; CANCELLED when the signal fires.
 */
export async function* readBatches({ dataset, indices }: Samples, options: BatchOptions): AsyncGenerator<SampleBatch> {
  if (options.labels && !dataset.labelled) {
    throw invalid(`${dataset.name} has no labels, expected some for the loss cross-entropy`);
  }
  const starts = Array.from({ length: Math.ceil(indices.length / options.batch) }, (_, i) => i * options.batch);
  const read = (start: number) => readOne(dataset, indices.slice(start, start + options.batch), start, options);
  let next = starts.length > 0 ? read(0) : undefined;
  for (const start of starts) {
    if (options.signal?.aborted) {
      await next?.catch(() => undefined);
      throw new HeartwoodError('CANCELLED', 'scoring was cancelled', { cause: options.signal.reason });
    }
    const present = await next!;
    next = start + options.batch < indices.length ? read(start + options.batch) : undefined;
    // An error of the batch that is read ahead is told when its turn comes.
    next?.catch(() => undefined);
    yield present;
  }
}

async function readOne(
  dataset: Dataset,
  indices: readonly number[],
  start: number,
  { batch, image, classes, labels }: BatchOptions,
): Promise<SampleBatch> {
  const { pixels, labels: given } = await readBatch(dataset, indices);
  const stride = image.channels * image.height * image.width;
  if (pixels.length !== indices.length * stride) {
    throw invalid(
      `${dataset.name}: a sample has ${pixels.length / indices.length} values, the model takes ` +
        `${image.channels}×${image.height}×${image.width}`,
    );
  }
  const source = (at: number) => Math.min(at, indices.length - 1);
  const filled = new Float32Array(batch * stride);
  for (let at = 0; at < batch; at++) {
    filled.set(pixels.subarray(source(at) * stride, (source(at) + 1) * stride), at * stride);
  }
  const dims = [batch, image.channels, image.height, image.width];
  return {
    start,
    indices,
    pixels: { type: 'float32', dims, data: filled },
    targets: labels ? oneHot(dataset, indices, given, batch, classes) : undefined,
  };
}

function oneHot(
  dataset: Dataset,
  indices: readonly number[],
  labels: Int32Array | undefined,
  batch: number,
  classes: number,
): TensorValue {
  const data = new Float32Array(batch * classes);
  for (let at = 0; at < batch; at++) {
    const sample = Math.min(at, indices.length - 1);
    const label = labels?.[sample] ?? -1;
    if (label < 0 || label >= classes) {
      throw invalid(`${dataset.name}: sample ${indices[sample]} has the label ${label}, expected 0 to ${classes - 1}`);
    }
    data[at * classes + label] = 1;
  }
  return { type: 'float32', dims: [batch, classes], data };
}
