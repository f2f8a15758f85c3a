import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AdamW, clipNorm } from './adamw.js';

import { initialiseVit } from './initialise.js';
import { Parameters } from './parameters.js';
import { digitsRecipe } from './recipes/digits.js';
import { locateStep, recipeDigest, totalSteps } from './recipe.js';
import { learningRate } from './schedule.js';
import { vitWeights } from './vit-graph.js';

test("AdamW makes PyTorch's steps, decay on matrices alone", () => {
  const parameters = new Parameters([
    { name: 'weight', dims: [2, 2] },
    { name: 'bias', dims: [2] },
  ]);
  parameters.values.set([0.5, -1, 2, 0.25, 0.1, -0.2]);
  const optimiser = new AdamW(parameters, { beta1: 0.9, beta2: 0.98, epsilon: 1e-8, weightDecay: 0.1 });
  optimiser.update(Float32Array.of(1, -2, 0.5, 0, 3, -0.1), 0.1, 1);
  optimiser.update(Float32Array.of(-1, 1, 0.5, 0.25, 2, 0.4), 0.05, 2);
  optimiser.update(Float32Array.of(0.3, 0.2, -0.1, 4, -1, -1), 0.02, 3);
  // torch.optim.AdamW of PyTorch 2.13 with the same settings.
  const expected = [0.3930002, -0.8674657, 1.80338, 0.1954731, -0.0597063, -0.1194091];
  expected.forEach((value, at) =>
    assert.ok(Math.abs((parameters.values[at] as number) - value) < 1e-6, `weight ${at}`),
  );
});

test('a gradient is scaled down to the limit of its norm, and never up', () => {
  const long = Float32Array.of(3, 4);
  assert.equal(clipNorm(long, 1), 5);
  assert.ok(Math.abs(Math.hypot(...long) - 1) < 1e-6 && Math.abs((long[0] as number) - 0.6) < 1e-6);
  const short = Float32Array.of(0.3, 0.4);
  clipNorm(short, 1);
  assert.deepEqual(short, Float32Array.of(0.3, 0.4));
});

test('the learning rate warms up linearly and goes down by half a cosine to its floor', () => {
  const schedule = { peak: 2, warmupSteps: 4, floor: 0.1 };
  assert.deepEqual(
    [0, 1, 3, 9].map((step) => learningRate(schedule, step, 0)),
    [0.5, 1, 2, 2],
  );
  assert.ok(Math.abs(learningRate(schedule, 50, 0.5) - 2 * (0.1 + 0.9 * 0.5)) < 1e-12);
  assert.ok(Math.abs(learningRate(schedule, 100, 1) - 0.2) < 1e-12);
});

test('a cosine that is longer than the run ends in a line to the floor', () => {
  const schedule = { peak: 2, warmupSteps: 0, floor: 0.1, span: 2, cooldown: 0.5 };
  // Half of the run is a quarter of the cosine.
  const turn = 0.1 + 0.9 * 0.5 * (1 + Math.SQRT1_2);
  const expected: [number, number][] = [
    [0, 1],
    [0.5, turn],
    [0.75, (turn + 0.1) / 2],
    [1, 0.1],
  ];
  for (const [done, share] of expected)
    assert.ok(Math.abs(learningRate(schedule, 0, done) - 2 * share) < 1e-12, `${done}`);
});

test('progress is by cost: steps times tokens', () => {
  const phases = [
    { batch: 4, steps: 10 },
    { batch: 2, steps: 5 },
  ];
  const recipe = { ...digitsRecipe, phases };
  const costs = (phase: number) => [17, 65][phase]!;
  const cost = 10 * 17 + 5 * 65;
  assert.equal(totalSteps(recipe), 15);
  assert.deepEqual(locateStep(recipe, 9, costs), { phase: 0, samples: 36, done: (9 * 17) / cost });
  assert.deepEqual(locateStep(recipe, 12, costs), { phase: 1, samples: 4, done: (10 * 17 + 2 * 65) / cost });
  assert.throws(() => locateStep(recipe, 15, costs), RangeError);
});

test('the digest of a recipe follows its every part and the data', () => {
  const digest = recipeDigest(digitsRecipe, 'data');
  assert.equal(recipeDigest({ ...digitsRecipe }, 'data'), digest);
  assert.notEqual(recipeDigest({ ...digitsRecipe, clip: 2 }, 'data'), digest);
  assert.notEqual(recipeDigest(digitsRecipe, 'other'), digest);
});

test('initial weights are by seed, of the deviations that are meant, and differ by place', () => {
  const fill = (seed: number) => {
    const parameters = new Parameters(vitWeights(digitsRecipe.model));
    initialiseVit(parameters, digitsRecipe.model, seed);
    return parameters;
  };
  const parameters = fill(1);
  assert.deepEqual(fill(1).values, parameters.values);
  assert.notDeepEqual(fill(2).values, parameters.values);
  const deviation = (name: string) => {
    const values = parameters.view(name);
    return Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length);
  };
  // A normal cut off at two deviations has 0.88 of the deviation.
  const query = deviation('vit.encoder.layer.0.attention.attention.query.weight');
  assert.ok(Math.abs(query - 0.88 / Math.sqrt(96)) < 0.002, `${query}`);
  const output = deviation('vit.encoder.layer.0.output.dense.weight');
  assert.ok(Math.abs(output - 0.88 / Math.sqrt(288 * 12)) < 0.001, `${output}`);
  const places = parameters.view('vit.embeddings.position_embeddings');
  const rows = Array.from({ length: 65 }, (_, row) => places.subarray(row * 96, (row + 1) * 96).join());
  assert.equal(new Set(rows).size, 65);
});
