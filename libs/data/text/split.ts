/** Parts of a text for calibration: no document has windows in two of them. */
import { invalid } from '../../errors/error.js';
import { splitIndices, type Fractions, type Parts } from '../batch.js';
import { permutation, randomFor } from '../random.js';
import type { TextDataset } from './dataset.js';

/**
 * Splits the windows of a text by document: documents are drawn into three disjoint parts by seed, as `splitIndices` draws samples, and
 * a part has the windows of its documents. Of more than `samples` windows it takes those that spread best: one of each document
 * before a second of any. Throws INVALID_ARGUMENT where there are too few documents.
 */
export function splitDocuments(dataset: TextDataset, seed: number, fractions: Fractions, samples = Infinity): Parts {
  const queues = new Map<number, number[]>();
  for (const index of permutation(dataset.size, randomFor(seed, 0x646f63, dataset.size))) {
    const document = dataset.documentOf(index);
    queues.set(document, [...(queues.get(document) ?? []), index]);
  }
  const documents = [...queues.keys()].sort((a, b) => a - b);
  const name = `${dataset.name}, of which ${documents.length} documents are as long as a window,`;
  const parts = splitIndices(documents.length, seed, fractions, name);
  if (!(samples >= 3)) throw invalid(`${dataset.name}: ${samples} windows, expected 3 or more, one for each part`);
  const share = samples / (fractions.fit + fractions.search + fractions.certify);
  const windows = (part: readonly number[], fraction: number) =>
    spread(
      part.map((at) => queues.get(documents[at]!)!),
      Math.max(1, Math.round(share * fraction)),
    );
  return {
    fit: windows(parts.fit, fractions.fit),
    search: windows(parts.search, fractions.search),
    certify: windows(parts.certify, fractions.certify),
  };
}

/** The first of every queue, then the second of every one that has it, up to so many. */
function spread(queues: readonly (readonly number[])[], count: number): number[] {
  const taken: number[] = [];
  for (let round = 0; taken.length < count; round++) {
    const row = queues.flatMap((queue) => (round < queue.length ? [queue[round]!] : []));
    if (row.length === 0) break;
    taken.push(...row.slice(0, count - taken.length));
  }
  return taken;
}
