/** Order statistics and the quantiles between them. */
import { invalid } from '../../errors/error.js';

/**
 * The quantile p of `values`, interpolated linearly between order statistics (type 7 of Hyndman & Fan 1996, the default of numpy
 * and R). @throws HeartwoodError INVALID_ARGUMENT when there are none
 */
export function quantile(values: ArrayLike<number>, p: number): number {
  return quantileOfSorted(Float64Array.from(values).sort(), p);
}

/** As {@link quantile}, of values that ascend. */
export function quantileOfSorted(sorted: ArrayLike<number>, p: number): number {
  if (sorted.length === 0) throw invalid('a quantile needs at least one value');
  if (!(p >= 0 && p <= 1)) throw invalid(`a quantile is of ${p}, expected 0 … 1`);
  const place = p * (sorted.length - 1);
  const below = Math.floor(place);
  const [a, b] = [sorted[below]!, sorted[Math.min(below + 1, sorted.length - 1)]!];
  return a === b ? a : a + (place - below) * (b - a);
}

/** As {@link quantile}; NaN of nothing, for what may not have happened at all. */
export function quantileOrNaN(values: ArrayLike<number>, p: number): number {
  return values.length === 0 ? NaN : quantile(values, p);
}

/** NaN of nothing. */
export function median(values: ArrayLike<number>): number {
  return quantileOrNaN(values, 0.5);
}

/** Σ x / n; NaN when there are none. */
export function mean(values: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i]!;
  return sum / values.length;
}
