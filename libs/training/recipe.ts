/** What a training run is made of, whatever it trains; its digest names it in a saved state. */
import { createHash } from 'node:crypto';
import type { AdamWOptions } from './adamw.js';
import type { Schedule } from './schedule.js';

/** A stretch of steps that are alike. */
export interface Phase {
  readonly steps: number;
  /** Samples a step, over all shards. */
  readonly batch: number;
}

export interface Recipe {
  readonly seed: number;
  readonly phases: readonly Phase[];
  /**
   * Equal parts of a batch that run side by side on a thread each. Part of the recipe, not of the machine: sums of floats
   * depend on how they are split.
   */
  readonly shards: number;
  readonly schedule: Schedule;
  readonly optimiser: AdamWOptions;
  /** The gradient's norm is at most this. */
  readonly clip: number;
}

/** SHA-256 over the recipe and the digest of the data: a state may only be resumed by the run that saved it. */
export function recipeDigest(recipe: Recipe, dataDigest: string): string {
  return createHash('sha256')
    .update(JSON.stringify([recipe, dataDigest]))
    .digest('hex');
}

/** Where a step lies in its recipe. */
export interface Place {
  /** Of the recipe's phases. */
  readonly phase: number;
  /** Samples of the phase that lie before the step. */
  readonly samples: number;
  /** The share of the run's whole cost that lies before it. */
  readonly done: number;
}

/** Finds a step, where `cost` says what a step of each phase costs, up to a constant. */
export function locateStep({ phases }: Recipe, step: number, cost: (phase: number) => number): Place {
  const total = phases.reduce((sum, { steps }, phase) => sum + steps * cost(phase), 0);
  let before = 0;
  let first = 0;
  for (const [phase, { steps, batch }] of phases.entries()) {
    const within = step - first;
    if (within < steps) return { phase, samples: within * batch, done: (before + within * cost(phase)) / total };
    before += steps * cost(phase);
    first += steps;
  }
  throw new RangeError(`step ${step} is beyond the recipe's ${first}`);
}

/** Steps of all phases. */
export function totalSteps({ phases }: Recipe): number {
  return phases.reduce((sum, { steps }) => sum + steps, 0);
}
