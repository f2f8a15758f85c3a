import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { brownDocuments } from '../data/text/brown.js';
import { tokenize } from '../data/text/dataset.js';
import { openTokenizer } from '../data/text/tokenizer.js';
import { brownJob } from './brown-job.js';
import { brownRecipe } from './recipes/brown.js';
import { assessCheckpoint } from './testing/assess-checkpoint.js';
import { train } from './train-recipe.js';

const out = await mkdtemp(join(tmpdir(), 'heartwood-train-brown-'));
after(() => rm(out, { recursive: true, force: true }));

test('the recipe leaves a whole checkpoint in the layout of Hugging Face, with the figures of its run', async () => {
  const recipe = {
    ...brownRecipe,
    model: { ...brownRecipe.model, hidden: 16, layers: 1, heads: 2, intermediate: 16, context: 32 },
    phases: [
      { positions: 16, steps: 3, batch: 4 },
      { positions: 32, steps: 3, batch: 2 },
    ],
  };
  const whole = await brownJob(recipe);
  // Eight documents in place of the splits, in less time.
  const job: typeof whole = { ...whole, assess: (runtime, parameters) => whole.assess(runtime, parameters, 'glance') };
  const notes: string[] = [];
  const report = await train(
    { out, job, assessEvery: 4 },
    { signal: new AbortController().signal, progress: () => undefined, note: (line) => void notes.push(line) },
  );
  assert.match(notes.join('\n'), /^step 4\/6, 32 tokens: loss \d\.\d+, .* validation \d\.\d{3} bits per byte$/);
  assert.deepEqual((await readdir(out)).sort(), [
    'README.md',
    'config.json',
    'generation_config.json',
    'model.safetensors',
    'tokenizer.json',
    'tokenizer_config.json',
  ]);
  const bits = (report.test.loss / Math.LN2).toFixed(3);
  assert.ok(
    (await readFile(join(out, 'README.md'), 'utf8')).includes(
      `| test, 50 documents | ${report.test.samples} | ${bits} |`,
    ),
  );

  // The canonical graph over the files that were written gives the figures that were reported.
  const tokenizer = await openTokenizer(join(out, 'tokenizer.json'));
  const documents = tokenize((await brownDocuments('validation')).slice(0, 8), tokenizer);
  const again = await assessCheckpoint(out, documents);
  assert.equal(again.samples, report.test.samples);
  assert.ok(Math.abs(again.loss - report.test.loss) < 1e-4, `${again.loss} ${report.test.loss}`);
});
