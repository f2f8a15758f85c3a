import { padTokens } from '../../../models/tokens.js';
import { mul, reduceSum, sqrt } from '../../../onnx/ops/index.js';
import { flat } from '../entering.js';
import type { MagnitudeScore } from '../parameters.js';
import type { ScoreRule } from './score.js';

/** |x|. */
export const magnitude: ScoreRule<MagnitudeScore> = (g, { seam }) => {
  const { rows, layout } = seam.tokens;
  return { kind: 'tokens', score: flat(g, padTokens(g, layout, sqrt(g, reduceSum(g, mul(g, rows, rows), [1])))) };
};
