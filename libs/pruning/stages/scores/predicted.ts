import type { PredictedScore } from '../parameters.js';
import { predict } from '../probe.js';
import type { ScoreRule } from './score.js';

/** What a probe foretells: HEART's zᵀHz (arXiv 2512.20120) or |∂L/∂m|, whose own values need a label and a backward pass. */
export const predicted: ScoreRule<PredictedScore> = (g, entering, { probe }, name) => ({
  kind: 'tokens',
  score: predict(g, entering, probe, name).prediction,
});
