import { normalCdf, normalDensity, studentQuantile } from './normal.js';

/** Values of at most this share of the mean count as zero: together they are no more than that of it. */
const negligible = 1e-4;

/**
 * Upper confidence bound of the mean of values of which some are zero and the upper half of the others is log-normal. The lower half
 * of those counts only as "below the median" (type II censoring), so a long left tail, which says nothing of the mean, does not
 * bend the fit.
 *
 *   log mean = log p + μ + σ²/2;  bound = exp(log p̂ + μ̂ + σ̂²/2 + t √((1 − p̂) / n p̂ + gᵀ I⁻¹ g / n p̂)),  g = (1, σ̂)
 *
 * p is the share that is not zero (Aitchison's delta distribution). After Cox's method for the log-normal mean (Land 1972; Zhou & Gao
 * 1997; with Student's quantile Olsson 2005), the estimates being the maximum likelihood ones of a censored normal sample (Cohen 1959)
 * and I its information.
 *
 * @param sorted ascending
 * @returns undefined where there are fewer than 16 values that are not zero, or their upper half does not vary
 */
export function logNormalTailBound(sorted: Float64Array, confidence: number): number | undefined {
  const floor = (negligible * sorted.reduce((sum, value) => sum + value, 0)) / sorted.length;
  const positive = sorted.subarray(sorted.findIndex((value) => value > floor));
  const n = positive.length;
  const censored = n >> 1;
  if (!(positive[0]! > floor) || n < 16 || positive[censored] === positive[n - 1]) return undefined;
  const fit = censoredNormal(positive, censored);
  if (!fit) return undefined;
  const { mu, sigma, edge } = fit;
  const share = n / sorted.length;
  const variance = (1 - share) / n + (sigma * sigma * formOfInverse(information((edge - mu) / sigma), sigma)) / n;
  const width = studentQuantile(confidence, n - 1) * Math.sqrt(variance);
  const bound = share * Math.exp(mu + (sigma * sigma) / 2 + width);
  return Number.isFinite(bound) ? bound : undefined;
}

/** Maximum likelihood of N(μ, σ²) for the logarithms, of which the first `censored` are known to be below `edge`, by EM. */
function censoredNormal(
  sorted: ArrayLike<number>,
  censored: number,
): { mu: number; sigma: number; edge: number } | undefined {
  const n = sorted.length;
  const edge = Math.log(sorted[censored]!);
  let [sum, squares] = [0, 0];
  for (let i = censored; i < n; i++) {
    // About the edge, for the sake of precision.
    const above = Math.log(sorted[i]!) - edge;
    sum += above;
    squares += above * above;
  }
  const share = censored / n;
  let mu = 0;
  let sigma = Math.sqrt(squares / (n - censored));
  for (let step = 0; step < 500; step++) {
    // Below the edge z = −μ/σ:  E x = μ − σ h,  E x² = μ² + σ² − σ h μ (x about the edge),  h = φ(z)/Φ(z)
    const hazard = inverseMills(-mu / sigma);
    const first = mu - sigma * hazard;
    const second = mu * mu + sigma * sigma - sigma * hazard * mu;
    const nextMu = sum / n + share * first;
    const nextSigma = Math.sqrt(Math.max(0, squares / n + share * second - nextMu * nextMu));
    const change = Math.abs(nextMu - mu) + Math.abs(nextSigma - sigma);
    [mu, sigma] = [nextMu, nextSigma];
    if (!(sigma > 0)) return undefined;
    if (change < 1e-10 * sigma) break;
  }
  return { mu: mu + edge, sigma, edge };
}

const inverseMills = (z: number): number => normalDensity(z) / Math.max(normalCdf(z), 1e-300);

/** Fisher information of (μ, σ) per sample, times σ², for censoring below z standard deviations: (I_μμ, I_μσ, I_σσ). */
function information(z: number): readonly [number, number, number] {
  const below = normalCdf(z);
  const density = normalDensity(z);
  const h = inverseMills(z);
  const curvature = below * h * (h + z);
  return [
    1 - below + curvature,
    2 * density + curvature * z - below * h,
    3 * z * density + 2 * (1 - below) + curvature * z * z - 2 * below * h * z,
  ];
}

/** gᵀ I⁻¹ g with g = (1, σ). */
function formOfInverse([a, b, c]: readonly [number, number, number], sigma: number): number {
  return (c - 2 * sigma * b + sigma * sigma * a) / (a * c - b * b);
}
