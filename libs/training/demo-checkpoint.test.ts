import assert from 'node:assert/strict';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { openDemoDigits } from '../data/demo-digits.js';
import { openCheckpoint } from '../models/checkpoint.js';
import { readTensor } from '../models/safetensors.js';
import { createRuntime } from '../runtime/runtime.js';
import { assess } from './assess.js';
import { digitsRecipe } from './recipes/digits.js';
import { Parameters } from './parameters.js';
import { vitWeights } from './vit-graph.js';

// From the folder of the compiled file, dist/libs/training, to the checkpoint in the repository.
const directory = fileURLToPath(new URL('../../../models/demo-digits', import.meta.url));

test('the bundled checkpoint is of the demo recipe, at most 4 MB, and right on 95 % of the test split or more', async () => {
  const checkpoint = await openCheckpoint(directory);
  assert.deepEqual(checkpoint.preprocessing, digitsRecipe.preprocessing);
  assert.ok((await stat(join(directory, 'model.safetensors'))).size <= 4_000_000);
  const weights = vitWeights(digitsRecipe.model);
  assert.deepEqual([...checkpoint.tensors.keys()].sort(), weights.map(({ name }) => name).sort());
  const parameters = new Parameters(weights);
  for (const { name } of parameters.list) parameters.view(name).set(await readTensor(checkpoint.tensors.get(name)!));
  const runtime = createRuntime({ threads: 1 });
  try {
    const test = await openDemoDigits(checkpoint.preprocessing, 'test');
    const { accuracy, samples } = await assess(runtime, digitsRecipe.model, parameters, test);
    assert.equal(samples, 1000);
    assert.ok(accuracy >= 0.95, `accuracy ${accuracy}`);
  } finally {
    await runtime.close();
  }
});
