import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { randomFor } from '../data/random.js';
import type { HeartwoodError } from '../errors/error.js';
import { createRuntime } from '../runtime/runtime.js';
import { Batches } from './batches.js';
import { initialise } from './initialise.js';
import { Parameters } from './parameters.js';
import { totalSteps, type Recipe } from './recipe.js';
import type { TrainingSource } from './source.js';
import { Stepper } from './stepper.js';
import { trainModel, type TrainingContext } from './train.js';
import { vitWeights } from './vit-graph.js';

const root = await mkdtemp(join(tmpdir(), 'heartwood-training-'));
const runtime = createRuntime({ workers: 2, threads: 1 });
after(async () => {
  await runtime.close();
  await rm(root, { recursive: true, force: true });
});

const recipe: Recipe = {
  seed: 7,
  model: {
    imageSize: 8,
    patchSize: 2,
    channels: 1,
    hidden: 16,
    layers: 2,
    heads: 2,
    intermediate: 24,
    classes: 3,
    epsilon: 1e-6,
  },
  preprocessing: {
    size: { height: 8, width: 8 },
    resample: 'bilinear',
    resize: true,
    rescale: 1,
    mean: [0],
    std: [1],
    channels: 1,
  },
  phases: [
    { side: 4, steps: 10 },
    { side: 8, steps: 20 },
  ],
  batch: 8,
  shards: 2,
  schedule: { peak: 5e-3, warmupSteps: 5, floor: 0.01 },
  optimiser: { beta1: 0.9, beta2: 0.98, epsilon: 1e-8, weightDecay: 0.05 },
  clip: 1,
  labelSmoothing: 0.1,
  augmentation: { flip: false, shift: 0 },
  distortion: 0,
};

/** Noise with a stripe down a column that is the label's. */
const source: TrainingSource = {
  digest: 'stripes',
  size: 20,
  read(index, epoch, { side }) {
    const random = randomFor(index, epoch);
    const label = index % 3;
    const pixels = Float32Array.from({ length: side * side }, (_, at) => {
      return random.next() / 2 ** 32 + (at % side === label ? 2 : 0);
    });
    return Promise.resolve({ pixels, label });
  },
};

function context(overrides: Partial<TrainingContext> = {}): TrainingContext {
  return { runtime, signal: new AbortController().signal, ...overrides };
}

async function uninterrupted(): Promise<{ values: Float32Array; losses: number[] }> {
  const losses: number[] = [];
  const state = { path: join(root, 'whole', 'state.safetensors'), every: 1000 };
  const { parameters } = await trainModel(
    recipe,
    source,
    state,
    context({ step: ({ loss }) => void losses.push(loss) }),
  );
  return { values: parameters.values, losses };
}
const whole = await uninterrupted();

test('training learns', () => {
  const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const [first, last] = [mean(whole.losses.slice(0, 3)), mean(whole.losses.slice(-3))];
  assert.equal(whole.losses.length, totalSteps(recipe));
  assert.ok(last < 0.75 * first, `the loss went from ${first} to ${last}`);
});

test('a run that is stopped by its signal, killed, and resumed ends in the same weights, bit for bit', async () => {
  const state = { path: join(root, 'pieces', 'state.safetensors'), every: 4 };
  const stop = new AbortController();
  const stopped = trainModel(recipe, source, state, {
    ...context(),
    signal: stop.signal,
    step: ({ done }) => (done === 6 ? stop.abort() : undefined),
  });
  await assert.rejects(
    stopped,
    (error: HeartwoodError) => error.code === 'CANCELLED' && /after 6 of 30/.test(error.message),
  );
  const killed = trainModel(recipe, source, state, {
    ...context(),
    step({ done }) {
      // As a power cut: between two saves, beyond the change of phase.
      if (done === 14) throw new Error('killed');
    },
  });
  await assert.rejects(killed, /killed/);
  const steps: number[] = [];
  const { parameters, seconds } = await trainModel(
    recipe,
    source,
    state,
    context({ step: ({ done }) => void steps.push(done) }),
  );
  assert.equal(steps[0], 13);
  assert.ok(seconds > 0);
  assert.deepEqual(parameters.values, whole.values);
});

test('the state of another recipe is refused', async () => {
  const state = { path: join(root, 'whole', 'state.safetensors'), every: 4 };
  await assert.rejects(trainModel({ ...recipe, seed: 8 }, source, state, context()), (error: HeartwoodError) => {
    return error.code === 'FAILED_PRECONDITION' && /state of another recipe/.test(error.message);
  });
});

test('a recipe that does not fit is refused', async () => {
  const state = { path: join(root, 'none', 'state.safetensors'), every: 4 };
  const phases = [{ side: 5, steps: 1 }];
  await assert.rejects(trainModel({ ...recipe, phases }, source, state, context()), /side 5, expected a multiple of 2/);
  await assert.rejects(trainModel({ ...recipe, batch: 9 }, source, state, context()), /batch of 9 does not divide/);
});

for (const side of [4, 8]) {
  test(`the gradient is the slope of the loss along every weight (windows of ${side})`, async () => {
    const phased = { ...recipe, phases: [{ side, steps: 1 }] };
    const parameters = new Parameters(vitWeights(recipe.model));
    initialise(parameters, recipe.model, 3);
    // Away from the initial zeros, about which a layer normalisation is too curved for differences.
    const random = randomFor(9);
    for (let at = 0; at < parameters.values.length; at++) {
      parameters.values[at] = (parameters.values[at] as number) + 0.5 * (random.next() / 2 ** 31);
    }
    const stepper = new Stepper(runtime, phased, parameters);
    const batch = await new Batches(phased, source).at(0);
    const gradient = new Float32Array(parameters.values.length);
    await stepper.gradient(batch, gradient);
    const spare = new Float32Array(gradient.length);
    // Along a random direction of every weight tensor: (L(w + h d) − L(w − h d)) / 2h = gᵀd.
    for (const { name, length } of parameters.list) {
      const view = parameters.view(name);
      const kept = view.slice();
      const direction = Float32Array.from({ length }, () => (random.next() > 0 ? 1 : -1));
      const size = 0.01 / Math.sqrt(length);
      const lossAt = (sign: number) => {
        kept.forEach((value, at) => (view[at] = value + sign * size * (direction[at] as number)));
        return stepper.gradient(batch, spare);
      };
      const slope = ((await lossAt(1)) - (await lossAt(-1))) / (2 * size);
      view.set(kept);
      const expected = parameters
        .view(name, gradient)
        .reduce((sum, value, at) => sum + value * (direction[at] as number), 0);
      // float32: the loss is known to 1e-7, so the slope to about 1e-5 / size.
      assert.ok(
        Math.abs(slope - expected) < 1e-3 * Math.sqrt(length) + 0.02 * Math.abs(expected),
        `${name}: ${slope}, ${expected}`,
      );
    }
    await stepper.dispose();
    assert.ok(gradient.some((value) => Math.abs(value) > 0.01));
  });
}
