import assert from 'node:assert/strict';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { brownDocuments } from '../data/text/brown.js';
import { byteTokenizerJson } from '../data/text/byte-tokenizer.js';
import { tokenize } from '../data/text/dataset.js';
import { parseTokenizer } from '../data/text/tokenizer.js';
import { openCheckpoint } from '../models/checkpoint.js';
import { causalWeights } from './causal-graph.js';
import { brownRecipe } from './recipes/brown.js';
import { assessCheckpoint } from './testing/assess-checkpoint.js';

// From the folder of the compiled file, dist/libs/training, to the checkpoint in the repository.
const directory = fileURLToPath(new URL('../../../models/demo-brown', import.meta.url));

test('the bundled language model is of its recipe, at most 4 MB, and tells bytes of unseen documents better than an n-gram', async () => {
  assert.ok((await stat(join(directory, 'model.safetensors'))).size <= 4_000_000);
  const { tensors } = await openCheckpoint(directory);
  const weights = causalWeights(brownRecipe.model);
  assert.deepEqual([...tensors.keys()].sort(), weights.map(({ name }) => name).sort());
  const tokenizerJson = await readFile(join(directory, 'tokenizer.json'), 'utf8');
  assert.equal(tokenizerJson, byteTokenizerJson());

  // Six documents are enough to tell; the model card has the whole split.
  const tokenizer = parseTokenizer(tokenizerJson, 'tokenizer.json');
  const documents = tokenize((await brownDocuments('test')).slice(0, 6), tokenizer);
  const { samples, accuracy, loss } = await assessCheckpoint(directory, documents);
  assert.equal(
    samples,
    documents.reduce((sum, { ids }) => sum + ids.length, 0),
  );
  const bits = loss / Math.LN2;
  // The n-gram of the model card: 2.19 on the whole split.
  assert.ok(bits > 1.5 && bits < 2.19, `${bits} bits per byte`);
  assert.ok(accuracy > 0.5, `next byte right: ${accuracy}`);
});
