import { readBatch } from '../../data/batch.js';
import type { Dataset } from '../../data/dataset.js';
import type { Session } from '../../runtime/runtime.js';
import type { TensorValue } from '../../runtime/tensor.js';
import { logSoftmax } from './divergence.js';

/** A batch of calibration samples with the dense model's answer to it. */
export interface PreparedBatch {
  readonly size: number;
  /** [size, C, H, W]. */
  readonly pixels: TensorValue;
  /** [size]; absent where the data have none. */
  readonly labels: Int32Array | undefined;
  /** By sample, log p of the dense model. */
  readonly dense: readonly Float64Array[];
}

/** Samples that are measured many times: read and answered by the dense model once. */
export interface PreparedSamples {
  readonly size: number;
  readonly classes: number;
  readonly batches: readonly PreparedBatch[];
}

/** Reads samples and runs the dense model (`pixel_values` → `logits`) on them. */
export async function prepareSamples(
  dataset: Dataset,
  indices: readonly number[],
  dense: Session,
  image: { readonly channels: number; readonly height: number; readonly width: number },
  options: { batch: number; signal: AbortSignal; progress: (done: number) => void },
): Promise<PreparedSamples> {
  const batches: PreparedBatch[] = [];
  let classes = 0;
  for (let from = 0; from < indices.length; from += options.batch) {
    options.signal.throwIfAborted();
    const part = indices.slice(from, from + options.batch);
    const { pixels, labels } = await readBatch(dataset, part);
    const tensor: TensorValue = {
      type: 'float32',
      dims: [part.length, image.channels, image.height, image.width],
      data: pixels,
    };
    const { logits } = await dense.run({ pixel_values: tensor });
    classes = logits!.dims[1]!;
    const rows = part.map((_, row) => logSoftmax(logits!.data as Float32Array, row, classes));
    batches.push({ size: part.length, pixels: tensor, labels, dense: rows });
    options.progress(from + part.length);
  }
  return { size: indices.length, classes, batches };
}

/** Samples per run that keep a batch's activations at some tens of megabytes. */
export function batchFor(tokens: number, hidden: number): number {
  return Math.max(1, Math.min(32, Math.floor(4e6 / (tokens * hidden * 4))));
}
