import assert from 'node:assert/strict';

/** ‖actual − expected‖ / ‖expected‖. */
export function relative(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  assert.equal(actual.length, expected.length);
  let [difference, norm] = [0, 0];
  for (let i = 0; i < expected.length; i++) {
    difference += (actual[i]! - expected[i]!) ** 2;
    norm += expected[i]! ** 2;
  }
  return Math.sqrt(difference / norm);
}

/** One estimate under one seed. */
export interface Estimate {
  readonly curvature: readonly number[];
  readonly standardError: readonly number[];
}

/**
 * Asserts that estimates under many seeds average to `exact` (within 4.5 standard errors of the average, each) and that their errors
 * are those that they tell: the mean squared deviation from `exact`, in standard errors, is one.
 */
export function assertUnbiased(estimates: readonly Estimate[], exact: readonly number[], what: string): void {
  const rounding = 1e-5 * Math.max(...exact.map(Math.abs));
  let [observed, told] = [0, 0];
  exact.forEach((truth, i) => {
    const n = estimates.length;
    const mean = estimates.reduce((sum, { curvature }) => sum + curvature[i]!, 0) / n;
    const variance = estimates.reduce((sum, { standardError }) => sum + standardError[i]! ** 2, 0) / n;
    const bound = 4.5 * Math.sqrt(variance / n) + rounding;
    assert.ok(
      Math.abs(mean - truth) <= bound,
      `${what}[${i}]: ${mean} on average for ${truth}, at most ${bound} apart`,
    );
    if (Math.sqrt(variance) < 10 * rounding) return;
    // Gates of large curvature would outweigh all others: each counts by its own variance.
    observed += estimates.reduce((sum, { curvature }) => sum + (curvature[i]! - truth) ** 2, 0) / n / variance;
    told++;
  });
  assert.ok(told > 0, `${what}: some gate has an error of sampling`);
  const ratio = observed / told;
  assert.ok(ratio > 0.6 && ratio < 1.7, `${what}: errors are ${ratio} times what is told (squared)`);
}
