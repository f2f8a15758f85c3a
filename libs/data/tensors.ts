/** A .safetensors file as a dataset: `pixel_values` [N, C, H, W], taken as they are, and `labels` [N], if there. */
import { basename } from 'node:path';
import { HeartwoodError, invalid } from '../errors/error.js';
import type { ImagePreprocessing } from '../models/preprocessing.js';
import { readSafetensors, readTensor, readTensorBytes, type TensorLocation } from '../models/safetensors.js';
import { digestFiles } from './byte-source.js';
import { checkIndex, type Dataset } from './dataset.js';
import { outputSize } from './preprocess.js';

/**
 * Opens the file; samples are read one at a time. The digest covers the file.
 * Throws INVALID_ARGUMENT on a file without `pixel_values`, on shapes that are not the model's, and on labels that do not fit.
 */
export async function openTensors(path: string, preprocessing: ImagePreprocessing): Promise<Dataset> {
  const { tensors } = await readSafetensors(path);
  const pixels = tensors.get('pixel_values');
  if (!pixels && tensors.has('input_ids')) {
    throw new HeartwoodError('UNIMPLEMENTED', `${path} holds input_ids, token sequences, where images are expected`);
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
  const labels = await readLabels(path, tensors.get('labels'), size);
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
      const values = { pixels: await readTensor(location), name: `${basename(path)}#${index}` };
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
): Promise<Int32Array | undefined> {
  if (!labels) return undefined;
  if (labels.shape.length !== 1 || labels.shape[0] !== size) {
    throw invalid(`${path}: labels is [${labels.shape.join(', ')}], expected [${size}] as pixel_values`);
  }
  const bytes = Buffer.from(await readTensorBytes(labels));
  const read = integerReaders[labels.type];
  if (!read) throw invalid(`${path}: labels is ${labels.type}, expected integers`);
  const values = Int32Array.from({ length: size }, (_, at) => read(bytes, at));
  const negative = values.findIndex((value) => value < 0);
  if (negative >= 0) throw invalid(`${path}: labels[${negative}] is ${values[negative]}, expected a class from 0 up`);
  return values;
}

const integerReaders: Readonly<Record<string, (bytes: Buffer, at: number) => number>> = {
  int64: (bytes, at) => Number(bytes.readBigInt64LE(at * 8)),
  int32: (bytes, at) => bytes.readInt32LE(at * 4),
  int8: (bytes, at) => bytes.readInt8(at),
  uint8: (bytes, at) => bytes.readUInt8(at),
};
