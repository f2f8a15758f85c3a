/** What a training run is made of; its digest names it in a saved state. */
import { createHash } from 'node:crypto';
import type { Augmentation } from '../data/augment.js';
import type { ImagePreprocessing } from '../models/preprocessing.js';
import type { AdamWOptions } from './adamw.js';
import type { Schedule } from './schedule.js';
import type { VitShape } from './vit-graph.js';

/**
 * A stretch of training on square windows of the input. Windows smaller than the image hold a quarter of the tokens, say, and so
 * teach at a quarter of the cost what a part of an image looks like; their place on the grid is drawn anew for every step, and
 * they use the position embeddings of that place.
 */
export interface Phase {
  readonly side: number;
  readonly steps: number;
}

export interface Recipe {
  readonly seed: number;
  readonly model: VitShape;
  readonly preprocessing: ImagePreprocessing;
  readonly phases: readonly Phase[];
  /** Samples a step, over all shards. */
  readonly batch: number;
  /**
   * Equal parts of a batch that run side by side on a thread each. Part of the recipe, not of the machine: sums of floats
   * depend on how they are split.
   */
  readonly shards: number;
  readonly schedule: Schedule;
  readonly optimiser: AdamWOptions;
  /** The gradient's norm is at most this. */
  readonly clip: number;
  /** The share of the target that is spread over all classes. */
  readonly labelSmoothing: number;
  readonly augmentation: Augmentation;
  /** Of the bundled digits: how much they are turned, scaled and slanted; 0 for not at all. */
  readonly distortion: number;
}

/** SHA-256 over the recipe and the digest of the data: a state may only be resumed by the run that saved it. */
export function recipeDigest(recipe: Recipe, dataDigest: string): string {
  return createHash('sha256')
    .update(JSON.stringify([recipe, dataDigest]))
    .digest('hex');
}

/** Tokens of one sample of a phase, the class token included: what a step costs, up to a constant. */
export function phaseTokens({ side }: Phase, { patchSize }: VitShape): number {
  return (side / patchSize) ** 2 + 1;
}

/** The phase of a step, and the share of the run's whole cost that lies before it. */
export function locateStep(recipe: Recipe, step: number): { phase: Phase; done: number } {
  const cost = (phase: Phase, steps: number) => steps * phaseTokens(phase, recipe.model);
  const total = recipe.phases.reduce((sum, phase) => sum + cost(phase, phase.steps), 0);
  let before = 0;
  let first = 0;
  for (const phase of recipe.phases) {
    if (step < first + phase.steps) return { phase, done: (before + cost(phase, step - first)) / total };
    before += cost(phase, phase.steps);
    first += phase.steps;
  }
  throw new RangeError(`step ${step} is beyond the recipe's ${first}`);
}

/** Steps of all phases. */
export function totalSteps({ phases }: Recipe): number {
  return phases.reduce((sum, { steps }) => sum + steps, 0);
}
