import { leastSamples, meanInterval } from '../../../../libs/pruning/statistics/bound.js';
import type { Manifest } from '../../../../libs/store/manifest.js';

/** A sample of the live data that ran at the default budget. */
export interface WatchedSample {
  /** Nats: of an image its KL, of a text the mean over its predicted tokens. */
  readonly kl: number;
  /** What it counts for: 1, and of a text those tokens. */
  readonly weight: number;
}

/** Samples that are looked back on. */
const windowSize = 1000;
const confidence = 0.95;

/**
 * What a version promised of its mean KL to version 1, nats per sample (of text: per predicted token): the loss budget it was made under, or, where FLOPs were the
 * target, the upper bound that was certified of it. Undefined where nothing was promised in this currency (no certificate, or a budget
 * of cross-entropy, which takes labels that live requests do not have).
 */
export function promisedLoss({ method, deltaLoss }: Pick<Manifest, 'method' | 'deltaLoss'>): number | undefined {
  if (method?.loss !== 'kl') return undefined;
  return method.lossBudget ?? deltaLoss?.bound;
}

/**
 * The promise, watched on live samples. It is broken when the lower 95 % confidence bound of the mean KL over the last 1,000 samples that
 * ran at the version's default budget is above what was promised. Each half of this has its reason:
 *
 * - The default budget alone: the promise was made for it. What a request or the controller asked for beyond it is their own choice.
 * - The *lower* bound: an alarm is to say that the live data does break the promise, not that it may. Student's bound, since KL has a
 *   heavy right tail: a sample that holds an outlier has a great deviation too, so below the mean this bound errs to the safe side
 *   (above it, it would not; `libs/pruning/statistics/bound.ts`).
 * - Texts count by their predicted tokens, as in the promise; but the samples are the texts, since the tokens of one are not independent of
 *   each other. The bound is that of a ratio of means (`meanInterval`).
 * - Against what was *promised*, itself an upper bound: data like the calibration's are well below it. What breaks it is drift.
 *
 * The window is looked at again with every sample, so a promise that is kept only just may be called broken for a while by chance: let an
 * alert hold for some minutes.
 */
export class LossWatch {
  readonly #window: WatchedSample[] = [];

  /** @param promised nats per sample (predicted token) */
  constructor(readonly promised: number) {}

  add(sample: WatchedSample): void {
    this.#window.push(sample);
    if (this.#window.length > windowSize) this.#window.shift();
  }

  get samples(): number {
    return this.#window.length;
  }

  /** Lower confidence bound of the mean, nats; undefined for fewer samples than say anything. */
  get lowerBound(): number | undefined {
    const values = this.#window.map(({ kl }) => kl);
    const weights = this.#window.map(({ weight }) => weight);
    // (Σw)² / Σw², the number of samples that count (Kish 1965): of a mean that hangs by a few long texts their spread says nothing.
    const sum = weights.reduce((total, weight) => total + weight, 0);
    const squares = weights.reduce((total, weight) => total + weight ** 2, 0);
    // As a product: a quotient of equal weights may be rounded to just below their number.
    if (sum ** 2 < leastSamples * squares || squares === 0) return undefined;
    // The lower end of an interval with as much above it as below.
    return meanInterval(values, weights, 2 * confidence - 1).low;
  }

  get broken(): boolean {
    return (this.lowerBound ?? 0) > this.promised;
  }
}
