/** Measures on times, and those on logits. */
export { argmax, klDivergence, logSoftmax } from '../../../libs/pruning/measure/divergence.js';

/** The p-quantile, 0 ≤ p ≤ 1, linear between order statistics (R's type 7); NaN of nothing. */
export function quantile(values: readonly number[], p: number): number {
  if (values.length === 0) return NaN;
  const sorted = Float64Array.from(values).sort();
  const position = p * (sorted.length - 1);
  const below = Math.floor(position);
  const rest = position - below;
  return rest === 0 ? sorted[below]! : sorted[below]! * (1 - rest) + sorted[below + 1]! * rest;
}

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
