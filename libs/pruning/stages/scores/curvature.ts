import { add, clip, exp, matMul, mul, split, sub } from '../../../onnx/ops/index.js';
import { average, patchShares } from '../entering.js';
import type { CurvatureScore } from '../parameters.js';
import { predictionBound, probeLayer } from '../probe.js';
import type { ScoreRule } from './score.js';

/**
 * Merging by curvature: distance in the stage's Fisher metric, Ward's mass, predicted influence (CurvatureScore).
 *
 * The image's term is the same for all pairs, so half of it is put into what each token of a pair brings, and merging, which takes
 * means of that, carries it along. What the probe's last bias adds is the same for all images: a constant.
 */
export const curvature: ScoreRule<CurvatureScore> = (g, entering, score, name) => {
  const { probe, massExponent, influenceExponent, imageExponent } = score;
  const { hidden, rider } = probeLayer(g, entering, probe, name, score.metric);
  const y = rider!;
  // Distances do not see a common shift; about the mean, |y_i|² + |y_j|² − 2 y_i·y_j loses the fewest digits.
  const features = sub(g, y, average(g, patchShares(g, entering, 'mass'), y));
  const common = { kind: 'pairs', features, distance: 'euclidean', massExponent } as const;
  const half = influenceExponent / 2;
  if (half === 0 && imageExponent === 0) return common;

  // Of log scale_i = half · log ŝ_i + ½γ mean log ŝ, and of log value = (log scale) / exponent: what the token and the image have in them.
  const exponent = half === 0 ? 1 : half;
  const last = (share: number) =>
    g.constant(
      [...probe.output].flatMap((weight) => [share * weight, (share / exponent) * weight]),
      [probe.output.length, 2],
    );
  const shares = patchShares(g, entering, 'count');
  const own = matMul(g, hidden, last(half));
  const ofImage =
    half === 0
      ? matMul(g, average(g, shares, hidden), last(imageExponent / 2))
      : mul(g, average(g, shares, own), imageExponent / influenceExponent);
  const logs = add(g, own, ofImage);
  const [scale, value] = split(g, exp(g, clip(g, logs, -predictionBound, predictionBound)), 2, [1, 1]);
  return {
    ...common,
    influence: { scale: scale!, value: value!, exponent },
    constant: (influenceExponent + imageExponent) * probe.outputBias,
  };
};
