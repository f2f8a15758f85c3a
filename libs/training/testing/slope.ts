/** A check of a training step's gradient against differences of its loss. */
import assert from 'node:assert/strict';
import type { RandomGenerator } from '../../data/random.js';
import type { Runtime } from '../../runtime/runtime.js';
import { Parameters } from '../parameters.js';
import { Stepper } from '../stepper.js';
import type { TrainingTask } from '../task.js';

/**
 * Asserts that the gradient of a task's first step is the slope of its loss along a random direction of every weight tensor:
 * (L(w + h d) − L(w − h d)) / 2h = gᵀd, for weights near the initial ones.
 */
export async function assertSlopes(
  runtime: Runtime,
  task: TrainingTask,
  shards: number,
  random: RandomGenerator,
): Promise<void> {
  const parameters = new Parameters(task.weights);
  task.initialise(parameters);
  // Away from the initial zeros, about which a layer normalisation is too curved for differences.
  for (let at = 0; at < parameters.values.length; at++) {
    parameters.values[at] = (parameters.values[at] as number) + 0.5 * (random.next() / 2 ** 31);
  }
  const stepper = new Stepper(runtime, task, shards, parameters);
  const batch = await task.batch(0);
  const gradient = new Float32Array(parameters.values.length);
  await stepper.gradient(0, batch, gradient);
  const spare = new Float32Array(gradient.length);
  for (const { name, length } of parameters.list) {
    const view = parameters.view(name);
    const kept = view.slice();
    const direction = Float32Array.from({ length }, () => (random.next() > 0 ? 1 : -1));
    const size = 0.01 / Math.sqrt(length);
    const lossAt = (sign: number) => {
      kept.forEach((value, at) => (view[at] = value + sign * size * (direction[at] as number)));
      return stepper.gradient(0, batch, spare);
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
}
