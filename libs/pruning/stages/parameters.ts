/** What a merging stage is: plain data, part of the plan. Matrices are row-major Float32Arrays; D is the width of a token. */

/**
 * A two-layer predictor of one number a token: gelu(z·A + z_class·B + z_mean·C + b1)·w2 + b2, where z is the layer-normed token
 * (no affine part), z_class the class token's and z_mean the mass-weighted mean over the patch tokens.
 */
export interface Probe {
  /** [D, hidden] each. */
  readonly token: Float32Array;
  readonly classToken: Float32Array;
  readonly meanToken: Float32Array;
  /** [hidden]: b1. */
  readonly bias: Float32Array;
  /** [hidden]: w2. */
  readonly output: Float32Array;
  /** b2. */
  readonly outputBias: number;
}

/**
 * Pairs by predicted curvature, in nats up to a common scale:
 * log cost(i, j) = log |(x_i − x_j)·W|² + β log(n_i n_j / (n_i + n_j)) + ½α (log ŝ_i + log ŝ_j) + γ mean log ŝ.
 * The first two terms are what Ward's criterion adds to the variance within groups, in the metric W Wᵀ.
 */
export interface CurvatureScore {
  readonly policy: 'curvature';
  /** [D, r]: W; W Wᵀ is the stage's mean Fisher metric. */
  readonly metric: Float32Array;
  /** Predicts log ŝ, the trace of the Fisher matrix for the token's residual vector. */
  readonly probe: Probe;
  readonly massExponent: number;
  readonly influenceExponent: number;
  readonly imageExponent: number;
}

/** Pairs by log(1 − cosine) of the keys' mean over the heads (ToMe, arXiv 2210.09461). */
export interface TomeScore {
  readonly policy: 'tome';
}

/** The class token's attention in this block, mean over the heads (EViT, arXiv 2202.07800). */
export interface AttentionScore {
  readonly policy: 'attention';
}

/** A probe that foretells the published score (`heart`: zᵀHz, signed) or the first-order one (`taylor`: log |g|). */
export interface PredictedScore {
  readonly policy: 'heart' | 'taylor';
  readonly probe: Probe;
}

/** The Euclidean norm of the token. */
export interface MagnitudeScore {
  readonly policy: 'magnitude';
}

/** A hash of the token's place, turned by the content of the class token: as good as chance, and the same every time. */
export interface RandomScore {
  readonly policy: 'random';
  readonly seed: number;
}

export type StageScore = CurvatureScore | TomeScore | AttentionScore | PredictedScore | MagnitudeScore | RandomScore;

/**
 * What becomes of the chosen ones. `merge`: two tokens become one at their mass-weighted mean, and mass adds up; needs a score of
 * pairs. `drop`: they are gone. `fuse`: all of them become one token, weighted by score, of mass 1. Both need a score of tokens.
 */
export type StageRule = 'merge' | 'drop' | 'fuse';

/**
 * What is compared with the threshold. `value`: the cost itself. `rank`: (rank + ½) / (tokens present in the sample, special ones
 * included), so that a threshold ρ takes round(ρ · tokens) of every sample, the cheapest first.
 */
export type StageSelection = 'value' | 'rank';

export interface StageParameters {
  /** The block at whose seam the stage sits. */
  readonly block: number;
  readonly rule: StageRule;
  readonly selection: StageSelection;
  /** Matchings in a row, each over what the one before left; 1 for `drop` and `fuse`. As many thresholds are needed. */
  readonly matchings: number;
  readonly score: StageScore;
}

/** Tokens that a sample keeps whatever the threshold, special ones included. */
export const leastTokens = 4;
