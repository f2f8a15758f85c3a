import { readBatch } from '../data/batch.js';
import type { Dataset } from '../data/dataset.js';
import { invalid } from '../errors/error.js';
import type { ClassifierSpec } from '../models/architectures/transformer.js';
import type { Checkpoint } from '../models/checkpoint.js';
import { buildClassifier, specOf } from '../models/classifier.js';
import { filledUp, integerBatch, readAhead, type Samples } from './batches.js';
import { targetsInput, type BatchOptions, type Network } from './network.js';

/** A classifier of images: pixels go in, one row of logits comes out. Float32 weights. */
export function imageNetwork(checkpoint: Checkpoint, dataset: Dataset): Network {
  const spec = specOf(checkpoint);
  return {
    checkpoint,
    ...spec,
    logits: [spec.classes],
    build(options) {
      const { g, gates, logits } = buildClassifier(checkpoint, { ...options, lowering: 'canonical' });
      return { g, gates, logits };
    },
    batches: (indices, options) => imageBatches(spec, { dataset, indices }, options),
  };
}

/** Images [batch, C, H, W] as `pixel_values`, their labels as `targets` [batch]. See `Network.batches`. */
export function imageBatches(
  spec: Pick<ClassifierSpec, 'image' | 'classes'>,
  { dataset, indices: all }: Samples<Dataset>,
  options: BatchOptions,
) {
  const { batch, labels, signal } = options;
  if (labels && !dataset.labelled) {
    throw invalid(`${dataset.name} has no labels, expected some for the loss cross-entropy`);
  }
  const { channels, height, width } = spec.image;
  const read = async (indices: readonly number[]) => {
    const { pixels, labels: given } = await readBatch(dataset, indices);
    if (pixels.length !== indices.length * channels * height * width) {
      throw invalid(
        `${dataset.name}: a sample has ${pixels.length / indices.length} values, the model takes ` +
          `${channels}×${height}×${width}`,
      );
    }
    const data = filledUp(pixels, indices.length, batch);
    return {
      feeds: {
        pixel_values: { type: 'float32', dims: [batch, channels, height, width], data } as const,
        ...(labels ? { [targetsInput]: targets(dataset, indices, given, batch, spec.classes) } : {}),
      },
      rows: indices.length,
    };
  };
  return readAhead(all, batch, read, signal);
}

function targets(
  dataset: Dataset,
  indices: readonly number[],
  labels: Int32Array | undefined,
  batch: number,
  classes: number,
) {
  const known = indices.map((index, at) => {
    const label = labels?.[at] ?? -1;
    if (label >= 0 && label < classes) return label;
    throw invalid(`${dataset.name}: sample ${index} has the label ${label}, expected 0 to ${classes - 1}`);
  });
  return integerBatch(known, indices.length, [batch]);
}
