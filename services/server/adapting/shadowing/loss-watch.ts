import { leastSamples } from '../../../../libs/pruning/statistics/bound.js';
import { studentQuantile } from '../../../../libs/pruning/statistics/normal.js';
import type { Manifest } from '../../../../libs/store/manifest.js';

/** Samples that are looked back on. */
const windowSize = 1000;
const confidence = 0.95;

/**
 * What a version promised of its mean KL to version 1, nats per sample: the loss budget it was made under, or, where FLOPs were the
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
 * - Against what was *promised*, itself an upper bound: data like the calibration's are well below it. What breaks it is drift.
 *
 * The window is looked at again with every sample, so a promise that is kept only just may be called broken for a while by chance: let an
 * alert hold for some minutes.
 */
export class LossWatch {
  readonly #window: number[] = [];

  /** @param promised nats per sample */
  constructor(readonly promised: number) {}

  add(kl: number): void {
    this.#window.push(kl);
    if (this.#window.length > windowSize) this.#window.shift();
  }

  get samples(): number {
    return this.#window.length;
  }

  /** Lower confidence bound of the mean, nats; undefined for fewer samples than say anything. */
  get lowerBound(): number | undefined {
    const n = this.#window.length;
    if (n < leastSamples) return undefined;
    const mean = this.#window.reduce((sum, kl) => sum + kl, 0) / n;
    const variance = this.#window.reduce((sum, kl) => sum + (kl - mean) ** 2, 0) / (n - 1);
    return mean - studentQuantile(confidence, n - 1) * Math.sqrt(variance / n);
  }

  get broken(): boolean {
    return (this.lowerBound ?? 0) > this.promised;
  }
}
