/**
 * AdamW (Loshchilov & Hutter 2019, "Decoupled weight decay regularization", algorithm 2), over one array of weights. In TypeScript
 * rather than in the graph: for a million weights it is 1 % of a step, and the moments never cross to the worker.
 */
import type { Parameters } from './parameters.js';

export interface AdamWOptions {
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  readonly weightDecay: number;
}

export class AdamW {
  /** Running means of the gradient and of its square. */
  readonly first: Float32Array;
  readonly second: Float32Array;

  constructor(
    private readonly parameters: Parameters,
    private readonly options: AdamWOptions,
  ) {
    this.first = new Float32Array(parameters.values.length);
    this.second = new Float32Array(parameters.values.length);
  }

  /** Step `step` (from 1) with learning rate `rate`; `gradient` is laid out as the parameters. */
  update(gradient: Float32Array, rate: number, step: number): void {
    const { first, second } = this;
    const { values, list } = this.parameters;
    const { beta1, beta2, epsilon, weightDecay } = this.options;
    // m̂ = m / (1 − β₁ᵗ), v̂ = v / (1 − β₂ᵗ);  w ← w − rate (m̂ / (√v̂ + ε) + λ w)
    const scale = rate / (1 - beta1 ** step);
    const rootCorrection = Math.sqrt(1 - beta2 ** step);
    for (const { offset, length, decayed } of list) {
      const keep = decayed ? 1 - rate * weightDecay : 1;
      for (let at = offset; at < offset + length; at++) {
        const slope = gradient[at] as number;
        const mean = beta1 * (first[at] as number) + (1 - beta1) * slope;
        const square = beta2 * (second[at] as number) + (1 - beta2) * slope * slope;
        first[at] = mean;
        second[at] = square;
        values[at] = (values[at] as number) * keep - (scale * mean) / (Math.sqrt(square) / rootCorrection + epsilon);
      }
    }
  }
}

/** Scales the gradient down to a norm of at most `limit`, in place; gives the norm that it had. */
export function clipNorm(gradient: Float32Array, limit: number): number {
  let square = 0;
  for (let at = 0; at < gradient.length; at++) square += (gradient[at] as number) ** 2;
  const norm = Math.sqrt(square);
  if (norm > limit) {
    const factor = limit / norm;
    for (let at = 0; at < gradient.length; at++) gradient[at] = (gradient[at] as number) * factor;
  }
  return norm;
}
