import { seamCurvature, type SeamCurvature } from '../../curvature/seam-curvature.js';
import type { ClassifierSpec } from '../../models/architectures/transformer.js';
import { specOf } from '../../models/classifier.js';
import { fitProbe } from '../predictor/fit.js';
import { metricOf } from '../predictor/metric.js';
import type { CurvatureScore } from '../stages/parameters.js';
import type { Fit, Policy } from './policy.js';
import { probeSamples } from './probe-samples.js';

/** Exponents of the cost (CurvatureScore): Ward's factor as second order has it, half of the influence, and the image's level. */
const exponents = { massExponent: 1, influenceExponent: 0.5, imageExponent: -0.25 };

/** Directions of the metric that distances are measured in: they hold 90 % and more of its trace. */
const rankOf = (hidden: number): number => Math.min(hidden, hidden > 512 ? 32 : 16);

/** Classes up to which every one has its pullback. */
const fewClasses = 32;
/** FLOPs of a sample above which a thousand samples of 32 pullbacks each would take hours. */
const heavy = 5e9;

/**
 * How many images, and how many pullbacks each, the targets are measured with. Noise of a sketch is averaged over tokens and images, in the
 * metric as in the probe's fit, so a large model makes do with few of either; a factor common to all targets changes no decision.
 */
function effortFor({ blocks, tokens, hidden, classes }: ClassifierSpec): {
  most: number;
  directions: 'exact' | number;
} {
  // 24 D² FLOPs a token and block, where an MLP is four times as wide as D.
  const large = 24 * blocks.length * tokens * hidden ** 2 > heavy;
  if (classes <= (large ? 8 : fewClasses)) return { most: Infinity, directions: 'exact' };
  return large ? { most: 256, directions: 8 } : { most: Infinity, directions: fewClasses };
}

/**
 * Merging by curvature, adaptive: pairs that are near in the Fisher metric of the stage and have little predicted influence, under a
 * threshold common to all images. The targets are the traces of the KL Fisher for the tokens' residual vectors: no labels.
 */
export const curvature: Policy<SeamCurvature[]> = {
  needsLabels: false,
  rule: 'merge',
  selection: 'value',
  matchings: 2,
  score({ checkpoint, samples, blocks, seed }, context) {
    const { most, directions } = effortFor(specOf(checkpoint));
    const { dataset, indices } = samples;
    const fitted = { dataset, indices: indices.slice(0, most) };
    return seamCurvature(checkpoint, fitted, { blocks, seed, directions }, context);
  },
  async fit(targets, { blocks, seed }, context) {
    const scores: CurvatureScore[] = [];
    const fits: Fit[] = [];
    for (const [stage, target] of targets.entries()) {
      const { W } = metricOf(target.metric, rankOf(target.hidden));
      const { probe, r2, rankCorrelation } = await fitProbe(context.runtime, probeSamples(target, target.trace), {
        seed: seed + stage,
        target: 'log',
        signal: context.signal,
        progress: (done, total) => context.progress(stage * total + done, targets.length * total),
      });
      scores.push({
        policy: 'curvature',
        metric: W,
        probe,
        ...exponents,
      });
      fits.push({ block: blocks[stage]!, r2, rankCorrelation });
    }
    return { scores, fits };
  },
};
