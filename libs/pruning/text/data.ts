import { join } from 'node:path';
import type { Parts } from '../../data/batch.js';
import type { TextDataset } from '../../data/text/dataset.js';
import { openInputIds } from '../../data/text/input-ids.js';
import { openText } from '../../data/text/open.js';
import { splitDocuments } from '../../data/text/split.js';
import { openTokenizer } from '../../data/text/tokenizer.js';
import { invalid } from '../../errors/error.js';
import { causalSpecOf } from '../../models/causal-lm.js';
import type { Checkpoint } from '../../models/checkpoint.js';
import { leastSamples } from '../statistics/bound.js';
import { TOKENIZER_FILE } from './artefact.js';

/** Text to calibrate with, its documents split once by seed. */
export interface TextCalibration {
  readonly dataset: TextDataset;
  readonly parts: Parts;
}

/** Tokens of a window unless told, where the model's context has as many. */
export const defaultWindow = 256;
/** Windows used unless told. */
const defaultWindows = 400;
/** By documents. A gradient has as many rows as there are positions, while a bound is only as good as its documents are many. */
const fractions = { fit: 0.3, search: 0.25, certify: 0.45 };
/** Which share of the documents certifies. */
export const certifyingDocuments = fractions.certify;

/** Opens text for a model, cut into windows. Throws as `openText`; NOT_FOUND without a tokenizer. */
export async function openWindows(checkpoint: Checkpoint, data: string, window?: number): Promise<TextDataset> {
  const { vocabulary, context } = causalSpecOf(checkpoint);
  if (window !== undefined && window > context)
    throw invalid(`--window: ${window} tokens, expected at most ${context}, the model's context`);
  if (data.endsWith('.safetensors')) {
    const dataset = await openInputIds(data, vocabulary);
    if (dataset.positions > context)
      throw invalid(
        `${data}: input_ids has rows of ${dataset.positions} tokens, expected at most ${context}, the model's context`,
      );
    return dataset;
  }
  const tokenizer = await openTokenizer(join(checkpoint.directory, TOKENIZER_FILE));
  return openText(data, tokenizer, { positions: window ?? Math.min(context, defaultWindow), vocabulary });
}

/**
 * Opens calibration text and splits it by document: positions of one document are not independent, nor are its windows. Throws as
 * `openText`; INVALID_ARGUMENT with the number of documents that are needed when there are too few.
 */
export async function openTextCalibration(
  checkpoint: Checkpoint,
  request: { readonly data: string; readonly samples?: number; readonly seed: number; readonly window?: number },
): Promise<TextCalibration> {
  const dataset = await openWindows(checkpoint, request.data, request.window);
  const documents = new Set(Array.from({ length: dataset.size }, (_, index) => dataset.documentOf(index))).size;
  const least = Math.ceil(leastSamples / fractions.certify);
  if (documents < least) {
    throw invalid(
      `${request.data}: ${documents} documents of ${dataset.positions} tokens or more, expected ${least} or more: ` +
        `${Math.round(100 * fractions.certify)} % of them certify, and fewer say nothing of a tail`,
    );
  }
  const windows = request.samples ?? defaultWindows;
  if (windows < least) {
    throw invalid(`samples: ${windows} windows, expected ${least} or more: one for each document that has to be there`);
  }
  return { dataset, parts: splitDocuments(dataset, request.seed, fractions, windows) };
}
