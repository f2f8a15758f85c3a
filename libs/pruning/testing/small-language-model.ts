import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { randomFor } from '../../data/random.js';
import { byteTokenizerJson, byteVocabulary } from '../../data/text/byte-tokenizer.js';
import { writeRandomCausalLm, type RandomCausalShape } from '../../models/testing/random-causal.js';
import type { PruneRequest } from '../request.js';

/** A language model over bytes that a test can prune in seconds. */
export const smallCausalShape: RandomCausalShape = {
  hidden: 32,
  layers: 3,
  heads: 4,
  intermediate: 48,
  vocabulary: byteVocabulary,
  context: 32,
};

/** Writes the checkpoint with a tokenizer of bytes, and documents of random words of different lengths; gives what a request needs to name. */
export async function writeSmallLanguageModel(
  folder: string,
  documents = 60,
  shape: RandomCausalShape = smallCausalShape,
): Promise<Pick<PruneRequest, 'modelDirectory' | 'data'>> {
  const modelDirectory = await writeRandomCausalLm(join(folder, 'language-model'), shape);
  await writeFile(join(modelDirectory, 'tokenizer.json'), byteTokenizerJson());
  await writeFile(
    join(modelDirectory, 'generation_config.json'),
    JSON.stringify({ eos_token_id: 0, do_sample: false }),
  );
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
