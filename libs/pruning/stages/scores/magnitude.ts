import { padTokens } from '../../../models/tokens.js';
import { reduceSumSquare, sqrt } from '../../../onnx/ops/index.js';
import { asRow } from '../entering.js';
import type { MagnitudeScore } from '../parameters.js';
import type { ScoreRule } from './score.js';

/** |x|. */
export const magnitude: ScoreRule<MagnitudeScore> = (g, { seam }) => {
  const { rows, layout } = seam.tokens;
  return { kind: 'tokens', score: asRow(g, padTokens(g, layout, sqrt(g, reduceSumSquare(g, rows, [1])))) };
};
