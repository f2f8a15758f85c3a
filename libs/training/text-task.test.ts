import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { randomFor } from '../data/random.js';
import type { TokenDocument } from '../data/text/dataset.js';
import type { HeartwoodError } from '../errors/error.js';
import { createRuntime } from '../runtime/runtime.js';
import { ngramLoss } from './ngram.js';
import { totalSteps } from './recipe.js';
import type { TrainingBatch } from './task.js';
import { assertSlopes } from './testing/slope.js';
import { TextTask, type TextRecipe } from './text-task.js';
import { trainModel } from './train.js';

const root = await mkdtemp(join(tmpdir(), 'heartwood-text-training-'));
const runtime = createRuntime({ workers: 2, threads: 1 });
after(async () => {
  await runtime.close();
  await rm(root, { recursive: true, force: true });
});

const recipe: TextRecipe = {
  seed: 5,
  model: { vocabulary: 9, context: 12, hidden: 16, layers: 2, heads: 2, intermediate: 24, rotary: 0.5, epsilon: 1e-5 },
  phases: [
    { positions: 6, steps: 30, batch: 4 },
    { positions: 12, steps: 30, batch: 4 },
  ],
  shards: 2,
  schedule: { peak: 1e-2, warmupSteps: 5, floor: 0.01 },
  optimiser: { beta1: 0.9, beta2: 0.98, epsilon: 1e-8, weightDecay: 0.01 },
  clip: 1,
};

/** Documents that count up to 8 and begin anew, from different numbers. */
const documents: TokenDocument[] = Array.from({ length: 6 }, (_, first) => ({
  name: `${first}`,
  ids: Int32Array.from({ length: 40 }, (_, at) => 1 + ((first + at) % 8)),
}));
const task = new TextTask(recipe, documents, 0);

/** The windows of a batch, each with its targets. */
function rowsOf({ shards }: TrainingBatch): { ids: number[]; targets: number[] }[] {
  return shards.flatMap(({ input_ids: input, targets }) => {
    const [rows, positions] = input!.dims as [number, number];
    const cut = (data: unknown, row: number) =>
      [...(data as BigInt64Array).subarray(row * positions, (row + 1) * positions)].map(Number);
    return Array.from({ length: rows }, (_, row) => ({ ids: cut(input!.data, row), targets: cut(targets!.data, row) }));
  });
}

test('targets are the next tokens, batches are by step alone, and an epoch reads every part once', async () => {
  const batch = await task.batch(3);
  assert.equal(batch.count, 24);
  assert.deepEqual(
    batch.shards.map(({ input_ids: input }) => input!.dims),
    [
      [2, 6],
      [2, 6],
    ],
  );
  for (const { ids, targets } of rowsOf(batch)) {
    assert.deepEqual(targets.slice(0, -1), ids.slice(1));
    // A number is followed by the next one, or by a mark; a mark by any number.
    [...ids, targets.at(-1)!].reduce((before, id) => {
      assert.ok(before === 0 || id === 0 || id === (before % 8) + 1, `${before} ${id}`);
      return id;
    });
  }
  const again = new TextTask(recipe, documents, 0);
  await again.batch(40);
  assert.deepEqual(await again.batch(3), batch);
  assert.notDeepEqual(rowsOf(await task.batch(4)), rowsOf(batch));
  assert.deepEqual((await task.batch(30)).shards[0]!['input_ids']!.dims, [2, 12]);

  // 246 tokens: 40 windows of 6, ten batches, of which every one starts at a place of its own.
  const epoch = await Promise.all(Array.from({ length: 10 }, (_, step) => task.batch(step)));
  const marks = epoch.flatMap(rowsOf).reduce((sum, { ids }) => sum + ids.filter((id) => id === 0).length, 0);
  assert.ok(marks >= 5 && marks <= 6, `${marks}`);
});

test('a language model learns to count, and a run that was stopped ends in the same weights', async () => {
  const losses: number[] = [];
  const context = { runtime, signal: new AbortController().signal };
  const whole = await trainModel(
    recipe,
    task,
    { path: join(root, 'whole'), every: 1000 },
    {
      ...context,
      step: ({ loss }) => void losses.push(loss),
    },
  );
  assert.equal(losses.length, totalSteps(recipe));
  assert.ok(losses[0]! > 2 && losses.at(-1)! < 0.6, `from ${losses[0]} to ${losses.at(-1)}`);

  const state = { path: join(root, 'pieces'), every: 7 };
  const stop = new AbortController();
  const stopped = trainModel(recipe, task, state, {
    runtime,
    signal: stop.signal,
    step: ({ done }) => (done === 33 ? stop.abort() : undefined),
  });
  await assert.rejects(
    stopped,
    (error: HeartwoodError) => error.code === 'CANCELLED' && /after 33 of 60/.test(error.message),
  );
  const { parameters } = await trainModel(recipe, task, state, context);
  assert.deepEqual(parameters.values, whole.parameters.values);
});

test('the gradient is the slope of the loss along every weight of a language model', () =>
  assertSlopes(runtime, task, recipe.shards, randomFor(11)));

test('windows that do not fit are refused', () => {
  const long = { ...recipe, phases: [{ positions: 13, steps: 1, batch: 2 }] };
  assert.throws(() => new TextTask(long, documents, 0), /windows of 13 tokens, expected at most 12/);
  assert.throws(
    () => new TextTask(recipe, [{ name: 'x', ids: Int32Array.of(1, 2, 3, 4, 5, 6) }], 0),
    /expected at most 3/,
  );
});

test('the n-gram is Witten and Bell’s', () => {
  const ids = (...tokens: number[]): TokenDocument => ({ name: '', ids: Int32Array.from(tokens) });
  // Unigrams of 1 1 2: P(1) = (2 + 2/257) / 5 and P(2) = (1 + 2/257) / 5, where 2 kinds were seen of 257.
  const [p1, p2] = [(2 + 2 / 257) / 5, (1 + 2 / 257) / 5];
  const unigram = ngramLoss([ids(1, 1, 2)], [ids(1, 2)], 1);
  assert.ok(Math.abs(unigram + (Math.log(p1) + Math.log(p2)) / 2) < 1e-12);
  // After 1: once 1, once 2, so P(2 | 1) = (1 + 2 P(2)) / 4.
  const bigram = ngramLoss([ids(1, 1, 2)], [ids(1, 2)], 2);
  assert.ok(Math.abs(bigram + (Math.log(p1) + Math.log((1 + 2 * p2) / 4)) / 2) < 1e-12);
});
