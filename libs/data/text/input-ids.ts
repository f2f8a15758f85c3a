/** A .safetensors file as text: `input_ids` [N, T], taken as they are, and `documents` [N], the document of each row, if there. */
import { basename } from 'node:path';
import { invalid } from '../../errors/error.js';
import { readSafetensors, type TensorLocation } from '../../models/safetensors.js';
import { digestFiles } from '../byte-source.js';
import { checkIndex } from '../dataset.js';
import { readIntegers } from '../integers.js';
import type { TextDataset } from './dataset.js';

/**
 * Opens the file and reads it whole; each row is a document of its own unless `documents` says which rows belong together. The digest covers
 * the file. `vocabulary` says below what token numbers must be. Throws INVALID_ARGUMENT, naming the tensor and the row.
 */
export async function openInputIds(path: string, vocabulary = Infinity): Promise<TextDataset> {
  const { tensors } = await readSafetensors(path);
  const location = tensors.get('input_ids');
  if (!location) throw invalid(`${path} has no tensor input_ids, expected one of [N, T]`);
  const [size = 0, positions = 0, ...more] = location.shape;
  if (size < 1 || positions < 2 || more.length > 0) {
    throw invalid(`${path}: input_ids is [${location.shape.join(', ')}], expected [N, T] with N ≥ 1 and T ≥ 2`);
  }
  const ids = await readIntegers(path, location);
  const wrong = ids.findIndex((id) => !(id >= 0 && id < vocabulary));
  if (wrong >= 0) {
    const [row, at] = [Math.floor(wrong / positions), wrong % positions];
    const expected = Number.isFinite(vocabulary) ? `0 to ${vocabulary - 1}, the model's tokens` : '0 or more';
    throw invalid(`${path}: input_ids of row ${row} holds ${ids[wrong]} at position ${at}, expected ${expected}`);
  }
  const numbers = await readDocuments(path, tensors.get('documents'), size);
  const places = new Map<number, number>();
  for (const number of numbers) if (!places.has(number)) places.set(number, places.size);
  const tokens = Int32Array.from(ids);
  const row = (index: number) => tokens.subarray(index * positions, (index + 1) * positions);
  const documentOf = (index: number) => {
    checkIndex(path, index, size);
    return places.get(numbers[index]!)!;
  };
  const rows = numbers.map((_, index) => index);
  return {
    name: basename(path),
    digest: await digestFiles([path]),
    size,
    positions,
    documents: [...places.keys()].map((number, place) => ({
      name: `${basename(path)}: document ${number}`,
      ids: concatenated(rows.filter((index) => documentOf(index) === place).map(row)),
    })),
    documentOf,
    read: (index) =>
      Promise.resolve({ document: documentOf(index), ids: row(index).slice(), name: `${basename(path)}#${index}` }),
  };
}

function concatenated(rows: readonly Int32Array[]): Int32Array {
  const whole = new Int32Array(rows.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const row of rows) {
    whole.set(row, at);
    at += row.length;
  }
  return whole;
}

async function readDocuments(path: string, location: TensorLocation | undefined, size: number): Promise<number[]> {
  if (!location) return Array.from({ length: size }, (_, row) => row);
  if (location.shape.join() !== String(size)) {
    throw invalid(
      `${path}: documents is [${location.shape.join(', ')}], expected [${size}], one for each row of input_ids`,
    );
  }
  return readIntegers(path, location);
}
