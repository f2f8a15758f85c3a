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
  /** [batch, longest]: log ŝ. */
  readonly logInfluence?: Value;
  /** [batch, 1]: added to every log cost of the sample. */
  readonly imageTerm?: Value;
  /** β, and α / 2: the exponent of each of the two influences. */
  readonly massExponent: number;
  readonly halfInfluenceExponent: number;
}

/** Of tokens: [batch, longest]; the least go first. */
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
