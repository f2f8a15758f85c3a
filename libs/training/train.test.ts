import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { randomFor } from '../data/random.js';
import type { HeartwoodError } from '../errors/error.js';
import { createRuntime } from '../runtime/runtime.js';
import { ImageTask, type ImageRecipe } from './image-task.js';
import { totalSteps } from './recipe.js';
import type { TrainingSource } from './source.js';
import { assertSlopes } from './testing/slope.js';
import { trainModel, type TrainingContext } from './train.js';

const root = await mkdtemp(join(tmpdir(), 'heartwood-training-'));
const runtime = createRuntime({ workers: 2, threads: 1 });
after(async () => {
  await runtime.close();
  await rm(root, { recursive: true, force: true });
});

const recipe: ImageRecipe = {
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
    { side: 4, steps: 10, batch: 8 },
    { side: 8, steps: 20, batch: 8 },
  ],
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

const task = new ImageTask(recipe, source);

function context(overrides: Partial<TrainingContext> = {}): TrainingContext {
  return { runtime, signal: new AbortController().signal, ...overrides };
}

async function uninterrupted(): Promise<{ values: Float32Array; losses: number[] }> {
  const losses: number[] = [];
  const state = { path: join(root, 'whole', 'state.safetensors'), every: 1000 };
  const { parameters } = await trainModel(recipe, task, state, context({ step: ({ loss }) => void losses.push(loss) }));
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
  const stopped = trainModel(recipe, task, state, {
    ...context(),
    signal: stop.signal,
    step: ({ done }) => (done === 6 ? stop.abort() : undefined),
  });
  await assert.rejects(
    stopped,
    (error: HeartwoodError) => error.code === 'CANCELLED' && /after 6 of 30/.test(error.message),
  );
  const killed = trainModel(recipe, task, state, {
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
    task,
    state,
    context({ step: ({ done }) => void steps.push(done) }),
  );
  assert.equal(steps[0], 13);
  assert.ok(seconds > 0);
  assert.deepEqual(parameters.values, whole.values);
});

test('the state of another recipe is refused', async () => {
  const state = { path: join(root, 'whole', 'state.safetensors'), every: 4 };
  await assert.rejects(trainModel({ ...recipe, seed: 8 }, task, state, context()), (error: HeartwoodError) => {
    return error.code === 'FAILED_PRECONDITION' && /state of another recipe/.test(error.message);
  });
});

test('a recipe that does not fit is refused', async () => {
  const state = { path: join(root, 'none', 'state.safetensors'), every: 4 };
  const phases = [{ side: 5, steps: 1, batch: 8 }];
  assert.throws(() => new ImageTask({ ...recipe, phases }, source), /side 5, expected a multiple of 2/);
  await assert.rejects(
    trainModel({ ...recipe, phases: [{ ...recipe.phases[0]!, batch: 9 }] }, task, state, context()),
    /batch of 9 does not divide/,
  );
});

for (const side of [4, 8]) {
  test(`the gradient is the slope of the loss along every weight (windows of ${side})`, () => {
    const phased = { ...recipe, seed: 3, phases: [{ side, steps: 1, batch: 8 }] };
    return assertSlopes(runtime, new ImageTask(phased, source), recipe.shards, randomFor(9));
  });
}
