/** Language models with random weights in repositories of their own. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { byteTokenizerJson, byteVocabulary, endOfTextId } from '../../../libs/data/text/byte-tokenizer.js';
import { type RandomCausalShape, writeRandomCausalLm } from '../../../libs/models/testing/random-causal.js';
import { importBaseline } from '../../../libs/pruning/baseline.js';

/** A byte for a token, and small: what is asked of the server is its book-keeping. */
export const smallShape: RandomCausalShape = {
  ...{ hidden: 64, layers: 3, heads: 4, intermediate: 160, vocabulary: byteVocabulary, context: 256 },
};

/** Publishes a model with random weights as version 1 of `name`. */
export async function publishRandom(
  folder: string,
  repository: string,
  name: string,
  shape: RandomCausalShape,
): Promise<void> {
  const modelDirectory = join(folder, name);
  await writeRandomCausalLm(modelDirectory, shape);
  await writeFile(join(modelDirectory, 'tokenizer.json'), tokenizerOf(shape.vocabulary));
  const config = { bos_token_id: endOfTextId, eos_token_id: endOfTextId };
  await writeFile(join(modelDirectory, 'generation_config.json'), JSON.stringify(config));
  const context = { workDirectory: join(folder, `${name}-work`), signal: new AbortController().signal };
  await importBaseline({ modelDirectory, repository, name }, context);
}

/** The bytes' tokenizer with a made-up word for every further token, so that each is some text. */
function tokenizerOf(vocabulary: number): string {
  const file = JSON.parse(byteTokenizerJson()) as { model: { vocab: Record<string, number> } };
  for (let id = byteVocabulary; id < vocabulary; id++) file.model.vocab[`w${id}`] = id;
  return JSON.stringify(file);
}
