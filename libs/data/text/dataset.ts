/** Text as a dataset: windows of so many tokens, each of one document. */
import { createHash } from 'node:crypto';
import { invalid } from '../../errors/error.js';
import { checkIndex, type DatasetOf } from '../dataset.js';
import type { TextDocument } from './documents.js';
import type { Tokenizer } from './tokenizer.js';

/** A window of a document. */
export interface TextSample {
  /** [positions] */
  readonly ids: Int32Array;
  /** The place of its document in `TextDataset.documents`: windows of one document are not independent. */
  readonly document: number;
  /** For people: the document, and where in it. */
  readonly name: string;
}

export interface TokenDocument {
  readonly name: string;
  readonly ids: Int32Array;
}

export interface TextDataset extends DatasetOf<TextSample> {
  /** Tokens of a window. */
  readonly positions: number;
  /** Whole documents as tokens, those that are shorter than a window included. */
  readonly documents: readonly TokenDocument[];
  /** The document of a window, as the sample says it. */
  documentOf(index: number): number;
}

/** Documents as tokens. */
export function tokenize(documents: readonly TextDocument[], tokenizer: Tokenizer): TokenDocument[] {
  return documents.map(({ name, text }) => ({ name, ids: Int32Array.from(tokenizer.encode(text)) }));
}

/**
 * Cuts documents into windows that do not overlap; what is left at the end of a document is in no window. The digest covers the
 * tokens and the windows. Throws INVALID_ARGUMENT where no document is as long as a window.
 */
export function windowDataset(name: string, documents: readonly TokenDocument[], positions: number): TextDataset {
  if (!Number.isInteger(positions) || positions < 2)
    throw invalid(`${name}: windows of ${positions} tokens, expected 2 or more`);
  const windows = documents.flatMap(({ ids }, document) =>
    Array.from({ length: Math.floor(ids.length / positions) }, (_, at) => ({ document, start: at * positions })),
  );
  if (windows.length === 0) {
    const longest = documents.reduce((most, { ids }) => Math.max(most, ids.length), 0);
    throw invalid(
      `${name}: the longest document has ${longest} tokens, expected one of ${positions} or more, a window`,
    );
  }
  const hash = createHash('sha256').update(`${positions}`);
  for (const { ids } of documents) hash.update(`,${ids.length}`).update(ids);
  const window = (index: number) => {
    checkIndex(name, index, windows.length);
    return windows[index]!;
  };
  return {
    name,
    digest: hash.digest('hex'),
    size: windows.length,
    positions,
    documents,
    documentOf: (index) => window(index).document,
    read(index) {
      const { document, start } = window(index);
      const { name: title, ids } = documents[document]!;
      return Promise.resolve({
        ids: ids.slice(start, start + positions),
        document,
        name: `${title}, tokens ${start} to ${start + positions - 1}`,
      });
    },
  };
}

export interface TokenBatch {
  /** [n, positions] */
  readonly ids: BigInt64Array;
  /** [n]: the document of each. */
  readonly documents: Int32Array;
}

/** Reads windows into one array, in the order of `indices`. */
export async function readTokens(dataset: TextDataset, indices: readonly number[]): Promise<TokenBatch> {
  const ids = new BigInt64Array(indices.length * dataset.positions);
  const documents = new Int32Array(indices.length);
  for (const [row, index] of indices.entries()) {
    const sample = await dataset.read(index);
    sample.ids.forEach((id, at) => (ids[row * dataset.positions + at] = BigInt(id)));
    documents[row] = sample.document;
  }
  return { ids, documents };
}
