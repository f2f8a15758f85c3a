/** What a dataset is to the rest of the project, and the one made of raw 8-bit images. */
import { HeartwoodError, invalid } from '../errors/error.js';
import type { ImagePreprocessing } from '../models/preprocessing.js';
import { encodePng } from './image.js';
import { preprocessPixels } from './preprocess.js';
import type { RawImage } from './resize.js';

export interface LabelledSample {
  /** Preprocessed, [C, H, W]. */
  readonly pixels: Float32Array;
  readonly label?: number;
  /** The image file, where the dataset is one of encoded images; see `Dataset.image` for all kinds. */
  readonly encoded?: Uint8Array;
  /** For people: a path, or the dataset and the index. */
  readonly name: string;
}

/** What data of any kind have: images here, windows of text in text/dataset.ts. */
export interface DatasetOf<Sample> {
  readonly name: string;
  /** SHA-256, hexadecimal, of what identifies the data; what it covers is said where each kind is opened. */
  readonly digest: string;
  readonly size: number;
  /** Reads one sample. Throws OUT_OF_RANGE, or INVALID_ARGUMENT naming a broken file. */
  read(index: number): Promise<Sample>;
}

/** Images, preprocessed as they are read. */
export interface Dataset extends DatasetOf<LabelledSample> {
  /** Names of the classes in the order of the labels, where known. */
  readonly classes: readonly string[] | undefined;
  /** Whether samples have labels. */
  readonly labelled: boolean;
  /** The sample as an encoded image: the original file, or a PNG of the raw pixels; undefined for data that are tensors. */
  image(index: number): Promise<Uint8Array | undefined>;
}

/** How a dataset is opened. */
export interface DatasetOptions {
  /** Which part, for data that has parts (demo:digits, IDX and CIFAR folders); `SPEC/test` says the same. */
  readonly split?: 'train' | 'validation' | 'test';
  /** The labels of the model, in order: labels of the data are given in this order where the names agree. */
  readonly classes?: readonly string[];
}

/** Throws OUT_OF_RANGE unless `index` is a sample of a dataset of `size`. */
export function checkIndex(name: string, index: number, size: number): void {
  if (!Number.isInteger(index) || index < 0 || index >= size) {
    throw new HeartwoodError('OUT_OF_RANGE', `${name} has samples 0 to ${size - 1}, not ${index}`);
  }
}

/**
 * Throws INVALID_ARGUMENT unless `label` is a class of the model.
 * @param classes how many the model has; undefined or 0 where nobody knows
 */
export function checkLabel(path: string, index: number, label: number, classes: number | undefined): void {
  if (label >= 0 && (!classes || label < classes)) return;
  const expected = classes ? `0 to ${classes - 1}, the model's classes` : 'a class from 0 up';
  throw invalid(`${path}: the label of sample ${index} is ${label}, expected ${expected}`);
}

export interface RawDatasetParts {
  readonly name: string;
  readonly digest: string;
  readonly size: number;
  readonly classes: readonly string[] | undefined;
  readonly labelled: boolean;
  /** The pixels of one sample and its label. */
  raw(index: number): Promise<{ image: RawImage; label?: number }>;
}

/** A dataset of raw 8-bit images: read by preprocessing the pixels, shown as PNG. */
export function rawDataset({ raw, ...parts }: RawDatasetParts, preprocessing: ImagePreprocessing): Dataset {
  return {
    ...parts,
    async read(index) {
      checkIndex(parts.name, index, parts.size);
      const name = `${parts.name}#${index}`;
      const { image, label } = await raw(index);
      const pixels = preprocessPixels(image, preprocessing, name);
      return label === undefined ? { pixels, name } : { pixels, label, name };
    },
    async image(index) {
      checkIndex(parts.name, index, parts.size);
      return encodePng((await raw(index)).image);
    },
  };
}
