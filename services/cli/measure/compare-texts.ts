import { createHash } from 'node:crypto';
import type { Split } from '../../../libs/data/digits.js';
import { permutation, randomFor } from '../../../libs/data/random.js';
import { openDocuments } from '../../../libs/data/text/open.js';
import { invalid } from '../../../libs/errors/error.js';
import type { RemoteSample } from '../../server/serving/compare-client.js';

/** Characters that are kept for each token of a prompt: more than a token of any language has, and as many are wanted at least. */
const charactersPerToken = 8;
/** Prompts unless told: each takes as long as its text. */
const usualSamples = 100;

export interface TextSamples {
  readonly name: string;
  /** SHA-256 of the texts, hexadecimal. */
  readonly digest: string;
  readonly texts: readonly { readonly text: string; readonly name: string }[];
}

export interface TextSampleOptions {
  readonly data: string;
  readonly split?: Split;
  readonly samples?: number;
  readonly seed: number;
  readonly promptTokens: number;
}

/** Stretches of documents, drawn by seed: prompts to be gone on with. Throws as `openDocuments`; INVALID_ARGUMENT where all are too short. */
export async function openTextSamples(options: TextSampleOptions): Promise<TextSamples> {
  const { data, split, samples = usualSamples, seed, promptTokens } = options;
  if (data.endsWith('.safetensors')) throw invalid(`${data}: expected text, which a language model goes on with`);
  const { name, documents } = await openDocuments(data, split);
  const length = charactersPerToken * promptTokens;
  const stretches = documents.flatMap((document) => {
    const count = Math.max(1, Math.floor(document.text.length / length));
    return Array.from({ length: count }, (_, at) => ({
      name: `${document.name}, part ${at + 1}`,
      text: wholeWords(document.text.slice(at * length, (at + 1) * length)),
    })).filter(({ text }) => text.trim() !== '');
  });
  const order = permutation(stretches.length, randomFor(seed)).slice(0, samples);
  const texts = Array.from(order, (at) => stretches[at]!);
  if (texts.length === 0) throw invalid(`${data}: no text to go on with, expected words`);
  const hash = createHash('sha256');
  for (const { text } of texts) hash.update(`${text.length}:`).update(text);
  return { name, digest: hash.digest('hex'), texts };
}

/** Without what may be half a word, or half a character, at its borders. */
function wholeWords(text: string): string {
  return text.replace(/^\S*\s+(?=\S)/, '').replace(/\s+\S*$/, '') || text;
}

export async function* remoteTexts({ texts }: TextSamples, signal: AbortSignal): AsyncGenerator<RemoteSample> {
  for (const { text, name } of texts) {
    signal.throwIfAborted();
    yield await Promise.resolve({ input: { text }, label: undefined, name });
  }
}
