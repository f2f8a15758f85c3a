import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { openDemoDigits } from '../data/demo-digits.js';
import { openCheckpoint } from '../models/checkpoint.js';
import { readTensor } from '../models/safetensors.js';
import { createRuntime } from '../runtime/runtime.js';
import { assess } from './assess.js';
import { digitsJob } from './digits-job.js';
import { Parameters } from './parameters.js';
import { digitsRecipe } from './recipes/digits.js';
import { train } from './train-recipe.js';
import { vitWeights } from './vit-graph.js';

const out = await mkdtemp(join(tmpdir(), 'heartwood-train-demo-'));
after(() => rm(out, { recursive: true, force: true }));

test('the command leaves a whole checkpoint with the figures of its run, and nothing else', async () => {
  const recipe = {
    ...digitsRecipe,
    model: { ...digitsRecipe.model, hidden: 16, layers: 1, heads: 2, intermediate: 16 },
    phases: [
      { side: 32, steps: 4, batch: 8 },
      { side: 64, steps: 2, batch: 8 },
    ],
  };
  const events: number[] = [];
  const notes: string[] = [];
  const report = await train(
    { out, job: await digitsJob(recipe), assessEvery: 4 },
    {
      signal: new AbortController().signal,
      progress: ({ done }) => void events.push(done),
      note: (line) => void notes.push(line),
    },
  );
  assert.deepEqual(events, [1, 2, 3, 4, 5, 6]);
  assert.match(notes.join('\n'), /^step 4\/6, 32×32: loss \d\.\d+, .* validation accuracy \d+\.\d %$/);
  assert.deepEqual((await readdir(out)).sort(), [
    'README.md',
    'config.json',
    'model.safetensors',
    'preprocessor_config.json',
  ]);

  const checkpoint = await openCheckpoint(out);
  assert.equal(checkpoint.architecture, 'ViTForImageClassification');
  assert.deepEqual(checkpoint.preprocessing, recipe.preprocessing);
  assert.deepEqual(checkpoint.labels, ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9']);
  const readme = await readFile(join(out, 'README.md'), 'utf8');
  assert.ok(
    readme.includes(`| test | 1000 | ${(report.test.accuracy * 100).toFixed(1)} % | ${report.test.loss.toFixed(4)} |`),
  );

  // What was written is what was measured.
  const parameters = new Parameters(vitWeights(recipe.model));
  for (const { name } of parameters.list) parameters.view(name).set(await readTensor(checkpoint.tensors.get(name)!));
  const runtime = createRuntime({ threads: 1 });
  try {
    const again = await assess(runtime, recipe.model, parameters, await openDemoDigits(recipe.preprocessing, 'test'));
    assert.deepEqual(again, report.test);
  } finally {
    await runtime.close();
  }
});
