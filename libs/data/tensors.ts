/** A .safetensors file as a dataset: `pixel_values` [N, C, H, W], taken as they are, and `labels` [N], if there. */
import { basename } from 'node:path';
import { invalid } from '../errors/error.js';
import type { ImagePreprocessing } from '../models/preprocessing.js';
import { readSafetensors, readTensor, type TensorLocation } from '../models/safetensors.js';
import { digestFiles } from './byte-source.js';
import { checkIndex, checkLabel, type Dataset } from './dataset.js';
import { readIntegers } from './integers.js';
import { outputSize } from './preprocess.js';

/**
 * Opens the file; samples are read one at a time. The digest covers the file. `classes` says how many the model has.
 * Throws INVALID_ARGUMENT on a file without `pixel_values`, on shapes that are not the model's, and on labels that do not fit; reading
 * a sample, on a NaN or an infinity in it.
 */
export async function openTensors(path: string, preprocessing: ImagePreprocessing, classes?: number): Promise<Dataset> {
  const { tensors } = await readSafetensors(path);
  const pixels = tensors.get('pixel_values');
  if (!pixels && tensors.has('input_ids')) {
    throw invalid(`${path} holds input_ids, token sequences, where images are expected`);
  }
  if (!pixels) throw invalid(`${path} has no tensor pixel_values, expected one of [N, C, H, W]`);
  const { height, width } = outputSize(preprocessing);
  const [size = 0, ...sample] = pixels.shape;
  const expected = [preprocessing.channels, height, width];
  if (size === 0 || sample.join() !== expected.join()) {
    throw invalid(
      `${path}: pixel_values is [${pixels.shape.join(', ')}], expected [N, ${expected.join(', ')}] with N ≥ 1`,
    );
  }
  const labels = await readLabels(path, tensors.get('labels'), size, classes);
  const stride = pixels.length / size;
  return {
    name: basename(path),
    digest: await digestFiles([path]),
    size,
    classes: undefined,
    labelled: labels !== undefined,
    async read(index) {
      checkIndex(path, index, size);
      const location = { ...pixels, shape: sample, offset: pixels.offset + index * stride, length: stride };
      const read = await readTensor(location);
      const at = read.findIndex((value) => !Number.isFinite(value));
      if (at >= 0) {
        throw invalid(
          `${path}: pixel_values of sample ${index} hold ${read[at]} at element ${at}, expected finite numbers`,
        );
      }
      const values = { pixels: read, name: `${basename(path)}#${index}` };
      return labels ? { ...values, label: labels[index] as number } : values;
    },
    image(index) {
      checkIndex(path, index, size);
      return Promise.resolve(undefined);
    },
  };
}

async function readLabels(
  path: string,
  labels: TensorLocation | undefined,
  size: number,
  classes: number | undefined,
): Promise<Int32Array | undefined> {
  if (!labels) return undefined;
  if (labels.shape.length !== 1 || labels.shape[0] !== size) {
    throw invalid(`${path}: labels is [${labels.shape.join(', ')}], expected [${size}] as pixel_values`);
  }
  const values = await readIntegers(path, labels);
  for (const [index, value] of values.entries()) checkLabel(path, index, value, classes);
  return Int32Array.from(values);
}
