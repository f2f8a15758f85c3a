import type { GraphBuilder } from '../../../onnx/builder.js';
import type { Value } from '../../../onnx/ir.js';
import type { Entering } from '../entering.js';
import type { StageScore } from '../parameters.js';

/** Of pairs: what the cost of merging two tokens is made of (matching.ts has the formula). */
export interface PairScore {
  readonly kind: 'pairs';
  /** [batch, longest, r]; their distances are the costs' core. Linear in the token, so that they may be merged with it. */
  readonly features: Value;
  /** `euclidean`: |f_i − f_j|². `cosine`: 1 − cos(f_i, f_j). */
  readonly distance: 'euclidean' | 'cosine';
  readonly influence?: Influence;
  /** Added to every log cost. */
  readonly constant?: number;
  /** β. */
  readonly massExponent: number;
}

/** What each token of a pair multiplies the cost by. Columns [batch, longest, 1]. */
export interface Influence {
  readonly scale: Value;
  /** What tokens that merge have the mass-weighted mean of; scale = value^exponent. */
  readonly value: Value;
  readonly exponent: number;
}

/** Of tokens: a row [batch, 1, longest]; the least go first. */
export interface TokenScore {
  readonly kind: 'tokens';
  readonly score: Value;
}

/** Writes a policy's score into the graph. `name` is unique to the stage. */
export type ScoreRule<S extends StageScore = StageScore> = (
  g: GraphBuilder,
  entering: Entering,
  score: S,
  name: string,
) => PairScore | TokenScore;
