/**
 * IDX pairs, the format of MNIST (http://yann.lecun.com/exdb/mnist, "The IDX file format"): a magic number 0 0 TYPE RANK, big-endian
 * dimensions, then the values. Images are uint8 of rank 3, labels uint8 of rank 1; both may be gzipped.
 */
import { readdir } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { invalid } from '../errors/error.js';
import type { ImagePreprocessing } from '../models/preprocessing.js';
import { digestFiles, openBytes, type ByteSource } from './byte-source.js';
import { checkLabel, rawDataset, type Dataset, type DatasetOptions } from './dataset.js';

const imagesFile = /^(.*)images[-.]idx3-ubyte(\.gz)?$/;
const unsignedByte = 0x08;

/** Whether a file is the images of an IDX pair, by its name. */
export function isIdxImages(path: string): boolean {
  return imagesFile.test(basename(path));
}

/** The images file of a folder that has IDX pairs: the one of the split where it has several (`train-…`, `t10k-…`). */
export async function findIdxImages(folder: string, split: DatasetOptions['split']): Promise<string | undefined> {
  const candidates = (await readdir(folder)).filter(isIdxImages).sort();
  // An unpacked file stands for its gzipped one.
  const names = candidates.filter((name) => !(name.endsWith('.gz') && candidates.includes(name.slice(0, -3))));
  if (names.length <= 1) return names[0] && join(folder, names[0]);
  const prefix = split === 'test' ? /^(t10k|test)/ : split === 'validation' ? /^val/ : /^train/;
  const wanted = names.filter((name) => prefix.test(name));
  if (wanted.length !== 1) {
    throw invalid(`${folder} has ${names.length} IDX image files (${names.join(', ')}): name the one that is meant`);
  }
  return join(folder, wanted[0] as string);
}

/**
 * Opens an images file and the labels file beside it, if there is one. The digest covers both files.
 * Throws INVALID_ARGUMENT where they are broken, or where a label is none of the model's `classes`.
 */
export async function openIdx(path: string, preprocessing: ImagePreprocessing, classes?: number): Promise<Dataset> {
  const images = await openBytes(path);
  const [size = 0, height = 0, width = 0] = await readHeader(images, 3);
  const header = 16;
  const area = height * width;
  const labels = await readLabels(path, size);
  for (const [index, label] of labels?.values.entries() ?? []) checkLabel(labels!.path, index, label, classes);
  return rawDataset(
    {
      name: basename(path),
      digest: await digestFiles(labels ? [path, labels.path] : [path]),
      size,
      classes: undefined,
      labelled: labels !== undefined,
      async raw(index) {
        const data = await images.read(header + index * area, area);
        const image = { data, height, width, channels: 1 };
        return labels ? { image, label: labels.values[index] as number } : { image };
      },
    },
    preprocessing,
  );
}

async function readLabels(imagesPath: string, size: number): Promise<{ path: string; values: Uint8Array } | undefined> {
  const folder = dirname(imagesPath);
  const [, prefix = ''] = imagesFile.exec(basename(imagesPath)) ?? [];
  const names = new Set(await readdir(folder));
  const name = ['-', '.']
    .flatMap((separator) => [`${prefix}labels${separator}idx1-ubyte`, `${prefix}labels${separator}idx1-ubyte.gz`])
    .find((candidate) => names.has(candidate));
  if (name === undefined) return undefined;
  const source = await openBytes(join(folder, name));
  const [count] = await readHeader(source, 1);
  if (count !== size)
    throw invalid(`${source.path} has ${count} labels, expected ${size} as ${basename(imagesPath)} has images`);
  return { path: source.path, values: await source.read(8, size) };
}

async function readHeader(source: ByteSource, rank: number): Promise<number[]> {
  const { path } = source;
  const headerSize = 4 + 4 * rank;
  if (source.size < headerSize) throw invalid(`${path} is too short for an IDX file: ${source.size} bytes`);
  const header = await source.read(0, headerSize);
  const magic = header.readUInt32BE(0);
  const expected = (unsignedByte << 8) | rank;
  if (magic !== expected) {
    const hexadecimal = (value: number) => `0x${value.toString(16).padStart(8, '0')}`;
    throw invalid(
      `${path} has the magic number ${hexadecimal(magic)}, expected ${hexadecimal(expected)} (uint8, rank ${rank})`,
    );
  }
  const dims = Array.from({ length: rank }, (_, axis) => header.readUInt32BE(4 + 4 * axis));
  if (dims.some((dim) => dim === 0)) throw invalid(`${path} is empty: its dimensions are ${dims.join('×')}`);
  const expectedSize = headerSize + dims.reduce((product, dim) => product * dim, 1);
  if (source.size !== expectedSize) {
    throw invalid(`${path} has ${source.size} bytes, expected ${expectedSize} for dimensions ${dims.join('×')}`);
  }
  return dims;
}
