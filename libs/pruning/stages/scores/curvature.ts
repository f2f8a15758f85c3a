import { mul, reshape, sub, unsqueeze } from '../../../onnx/ops/index.js';
import { average, patchShares } from '../entering.js';
import type { CurvatureScore } from '../parameters.js';
import { predict } from '../probe.js';
import type { ScoreRule } from './score.js';

/** Merging by curvature: distance in the stage's Fisher metric, Ward's mass, predicted influence (CurvatureScore). */
export const curvature: ScoreRule<CurvatureScore> = (g, entering, score, name) => {
  const { prediction, projections } = predict(g, entering, score.probe, name, [score.metric]);
  const y = projections[0]!;
  // Distances do not see a common shift; about the mean, |y_i|² + |y_j|² − 2 y_i·y_j loses the fewest digits.
  const features = sub(g, y, average(g, patchShares(g, entering, 'mass'), y));
  const level = average(g, patchShares(g, entering, 'count'), unsqueeze(g, prediction, [2]));
  return {
    kind: 'pairs',
    features,
    distance: 'euclidean',
    logInfluence: prediction,
    imageTerm: mul(g, reshape(g, level, [level.shape[0]!, 1]), score.imageExponent),
    massExponent: score.massExponent,
    halfInfluenceExponent: score.influenceExponent / 2,
  };
};
