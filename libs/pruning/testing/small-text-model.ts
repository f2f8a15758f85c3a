import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { randomFor } from '../../data/random.js';
import { byteTokenizerJson, byteVocabulary, endOfTextId } from '../../data/text/byte-tokenizer.js';
import { type RandomCausalShape, writeRandomCausalLm } from '../../models/testing/random-causal.js';
import type { PruneRequest } from '../request.js';

/** A language model small enough for tests: random weights, a token a byte. */
export const smallTextShape: RandomCausalShape = {
  hidden: 32,
  layers: 2,
  heads: 2,
  intermediate: 48,
  vocabulary: byteVocabulary,
  context: 128,
};

/**
 * Writes it as a Hugging Face folder, generation_config.json included. Gives the folder.
 * @param generation what that file says beside the token that ends a text
 */
export async function writeSmallTextModel(
  folder: string,
  shape: Partial<RandomCausalShape> = {},
  generation: object = {},
): Promise<string> {
  await writeRandomCausalLm(folder, { ...smallTextShape, ...shape });
  await writeFile(join(folder, 'tokenizer.json'), byteTokenizerJson());
  const config = { bos_token_id: endOfTextId, eos_token_id: endOfTextId, ...generation };
  await writeFile(join(folder, 'generation_config.json'), JSON.stringify(config));
  return folder;
}

/** A language model of another shape, and documents of random words of different lengths; gives what a request needs to name. */
export async function writeSmallText(
  folder: string,
  documents = 60,
): Promise<Pick<PruneRequest, 'modelDirectory' | 'data'>> {
  const shape = { layers: 3, heads: 4, context: 32 };
  const modelDirectory = await writeSmallTextModel(join(folder, 'language-model'), shape, { do_sample: false });
  const data = join(folder, 'documents.txt');
  await writeFile(data, smallDocuments(documents).join('\n\n\n'));
  return { modelDirectory, data };
}

/** Documents of 100 to 200 characters. */
export function smallDocuments(count: number): string[] {
  const words = ['heart', 'wood', 'of', 'the', 'oak', 'is', 'dark', 'and', 'sapwood', 'pale', 'rings', 'tell', 'years'];
  return Array.from({ length: count }, (_, document) => {
    const random = randomFor(99, document);
    const draw = (below: number) => (random.next() >>> 0) % below;
    const length = 100 + draw(100);
    let text = '';
    while (text.length < length) text += `${words[draw(words.length)]} `;
    return text;
  });
}
