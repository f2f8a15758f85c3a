/** The training loop: resumable, and the same bit for bit however often it was interrupted. */
import { dirname } from 'node:path';
import { HeartwoodError, invalid } from '../errors/error.js';
import { makeFolders } from '../errors/make-folders.js';
import type { Runtime } from '../runtime/runtime.js';
import { AdamW, clipNorm } from './adamw.js';
import { Parameters } from './parameters.js';
import { locateStep, recipeDigest, totalSteps, type Recipe } from './recipe.js';
import { learningRate } from './schedule.js';
import { loadState, saveState } from './state.js';
import { Stepper } from './stepper.js';
import type { TrainingTask } from './task.js';

export interface TrainingContext {
  /** With as many workers as the recipe has shards; a run is on one thread. */
  readonly runtime: Runtime;
  readonly signal: AbortSignal;
  /** After every step. */
  step?(event: TrainingStep): void | Promise<void>;
}

export interface TrainingStep {
  /** Steps done, and of how many. */
  readonly done: number;
  readonly total: number;
  /** Mean cross-entropy of the step's batch against its targets, nats: by image, or by token. */
  readonly loss: number;
  readonly rate: number;
  /** Of the recipe's phases. */
  readonly phase: number;
  readonly parameters: Parameters;
}

export interface TrainingResult {
  readonly parameters: Parameters;
  readonly steps: number;
  /** Wall-clock time over all the runs that it took. */
  readonly seconds: number;
}

export interface StateOptions {
  /** The file that holds the state of the run. */
  readonly path: string;
  /** Steps between two saves. */
  readonly every: number;
}

/**
 * Trains from the recipe's initial weights, or on from the state in `state.path`, which is written every so many steps, when the
 * signal is raised (the promise then rejects with CANCELLED), and at the end; the caller removes it once it has kept the result.
 */
export async function trainModel(
  recipe: Recipe,
  task: TrainingTask,
  state: StateOptions,
  context: TrainingContext,
): Promise<TrainingResult> {
  checkRecipe(recipe);
  const parameters = new Parameters(task.weights);
  const optimiser = new AdamW(parameters, recipe.optimiser);
  const digest = recipeDigest(recipe, task.digest);
  await makeFolders(dirname(state.path));
  const resumed = await loadState(state.path, digest, parameters, optimiser);
  if (!resumed) task.initialise(parameters);
  const started = performance.now();
  const seconds = () => (resumed?.seconds ?? 0) + (performance.now() - started) / 1000;
  const total = totalSteps(recipe);
  const stepper = new Stepper(context.runtime, task, recipe.shards, parameters);
  const gradient = new Float32Array(parameters.values.length);
  const save = (step: number) => saveState(state.path, digest, { step, seconds: seconds() }, parameters, optimiser);
  try {
    let next = resumed && resumed.step >= total ? undefined : task.batch(resumed?.step ?? 0);
    for (let step = resumed?.step ?? 0; step < total; step++) {
      if (context.signal.aborted) {
        await next?.catch(() => undefined);
        await save(step);
        throw new HeartwoodError(
          'CANCELLED',
          `training was stopped after ${step} of ${total} steps; it resumes from ${state.path}`,
        );
      }
      const batch = await next!;
      const { phase, done } = locateStep(recipe, step, (at) => task.cost(at));
      const running = stepper.gradient(phase, batch, gradient);
      // The next batch is drawn while the workers are busy; its error, if any, is met when it is awaited.
      next = step + 1 < total ? task.batch(step + 1) : undefined;
      next?.catch(() => undefined);
      const loss = await running;
      if (!Number.isFinite(loss))
        throw new HeartwoodError('INTERNAL', `the loss is ${loss} at step ${step}: the learning rate is too high`);
      const rate = learningRate(recipe.schedule, step, done);
      clipNorm(gradient, recipe.clip);
      optimiser.update(gradient, rate, step + 1);
      if ((step + 1) % state.every === 0 || step + 1 === total) await save(step + 1);
      await context.step?.({ done: step + 1, total, loss, rate, phase, parameters });
    }
  } finally {
    await stepper.dispose();
  }
  return { parameters, steps: total, seconds: seconds() };
}

function checkRecipe({ phases, shards }: Recipe): void {
  for (const { batch } of phases) {
    if (batch % shards !== 0) throw invalid(`the recipe's batch of ${batch} does not divide by its ${shards} shards`);
  }
}
