/** Where training samples come from: any labelled dataset, augmented, or the bundled digits, drawn anew every epoch. */
import { augment, type Augmentation } from '../data/augment.js';
import type { Dataset } from '../data/dataset.js';
import { canvasSide, type ClutteredDigits, type Region } from '../data/digits.js';
import { preprocessPixels } from '../data/preprocess.js';
import { randomFor } from '../data/random.js';
import { invalid } from '../errors/error.js';
import type { ImagePreprocessing } from '../models/preprocessing.js';

export interface TrainingSample {
  /** [C, side, side] of the region. */
  readonly pixels: Float32Array;
  readonly label: number;
}

export interface TrainingSource {
  readonly digest: string;
  readonly size: number;
  /** A sample as epoch `epoch` has it, cut to a square region of the input; the same whenever it is asked for. */
  read(index: number, epoch: number, region: Region): Promise<TrainingSample>;
}

/** The bundled digits: position, clutter and distortion are drawn by epoch, the digit inside the region. */
export function digitsSource(
  task: ClutteredDigits,
  digest: string,
  preprocessing: ImagePreprocessing,
  distortion: number,
): TrainingSource {
  return {
    digest,
    size: task.size,
    read(index, epoch, region) {
      // Epoch 0 is how `demo:digits/train` shows the digit; training has its own draws.
      const canvas = task.draw(index, epoch + 1, { region, distortion });
      const image = { data: crop(canvas, region), height: region.side, width: region.side, channels: 1 };
      const pixels = preprocessPixels(image, { ...preprocessing, resize: false, size: sizeOf(region) });
      return Promise.resolve({ pixels, label: task.label(index) });
    },
  };
}

function sizeOf({ side }: Region): { height: number; width: number } {
  return { height: side, width: side };
}

function crop(canvas: Uint8Array, { top, left, side }: Region): Uint8Array {
  const cut = new Uint8Array(side * side);
  for (let row = 0; row < side; row++) {
    const start = (top + row) * canvasSide + left;
    cut.set(canvas.subarray(start, start + side), row * side);
  }
  return cut;
}

/** A labelled dataset, each image flipped and shifted by seed and epoch. Throws INVALID_ARGUMENT without labels. */
export function datasetSource(
  dataset: Dataset,
  preprocessing: ImagePreprocessing,
  augmentation: Augmentation,
  seed: number,
): TrainingSource {
  if (!dataset.labelled) throw invalid(`${dataset.name} has no labels, which training needs`);
  const { mean, std, channels, size, crop: cropped } = preprocessing;
  const { height, width } = cropped ?? size;
  const black = mean.map((value, channel) => -value / (std[channel] ?? 1));
  return {
    digest: dataset.digest,
    size: dataset.size,
    async read(index, epoch, region) {
      if (region.side !== height || height !== width)
        throw invalid(`${dataset.name} is trained on whole square images only`);
      const { pixels, label, name } = await dataset.read(index);
      if (label === undefined) throw invalid(`${name} has no label, which training needs`);
      augment(pixels, { channels, height, width }, augmentation, black, randomFor(seed, index, epoch));
      return { pixels, label };
    },
  };
}
