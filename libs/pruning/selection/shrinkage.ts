import type { CurvatureFactors } from '../../curvature/factors.js';

/** Columns between which correlations are looked at: of larger families some, evenly spread. */
const mostColumns = 192;

/**
 * How far an estimate of H should be drawn to its diagonal, in [0, 1]: of the share of what stands beside the diagonal that is noise
 *
 *   ρ = Σ_{i≠j} Var(r̂_ij) / Σ_{i≠j} r̂_ij²,   r̂_ij = ĥ_ij / √(ĥ_ii ĥ_jj)
 *
 * which minimises the expected squared error of the correlations (Schäfer & Strimmer 2005, after Ledoit & Wolf 2004). ĥ is a mean over samples, each of
 * which has some rows of U, and the variance is that of this mean.
 *
 * @param rows of each sample, one after another
 */
export function shrinkageOf({ U, K }: Pick<CurvatureFactors, 'U' | 'K'>, rows: number): number {
  const n = U.length / K;
  const samples = Math.floor(K / rows);
  if (n < 2 || samples < 2) return 0;
  const m = Math.min(n, mostColumns);
  const scales = new Float64Array(m);
  const columns = Int32Array.from({ length: m }, (_, at) => Math.floor((at * n) / m));
  for (let k = 0; k < K; k++) for (let a = 0; a < m; a++) scales[a]! += U[k * n + columns[a]!]! ** 2 / K;
  for (let a = 0; a < m; a++) scales[a] = scales[a]! > 0 ? 1 / Math.sqrt(scales[a]!) : 0;
  // Of a sample, then over them: Σ_s r and Σ_s r².
  const own = new Float64Array(m * m);
  const sums = new Float64Array(m * m);
  const squares = new Float64Array(m * m);
  const row = new Float64Array(m);
  for (let sample = 0; sample < samples; sample++) {
    own.fill(0);
    for (let k = sample * rows; k < (sample + 1) * rows; k++) {
      for (let a = 0; a < m; a++) row[a] = U[k * n + columns[a]!]! * scales[a]!;
      for (let a = 0; a < m; a++) for (let b = 0; b < a; b++) own[a * m + b]! += (row[a]! * row[b]!) / rows;
    }
    for (let at = 0; at < own.length; at++) {
      sums[at]! += own[at]!;
      squares[at]! += own[at]! ** 2;
    }
  }
  let [noise, all] = [0, 0];
  for (let a = 0; a < m; a++) {
    for (let b = 0; b < a; b++) {
      const mean = sums[a * m + b]! / samples;
      noise += (squares[a * m + b]! / samples - mean ** 2) / (samples - 1);
      all += mean ** 2;
    }
  }
  return all > 0 ? Math.min(1, noise / all) : 0;
}
