import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { byteTokenizerJson, byteVocabulary, endOfTextId } from '../../data/text/byte-tokenizer.js';
import { type RandomCausalShape, writeRandomCausalLm } from '../../models/testing/random-causal.js';

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
