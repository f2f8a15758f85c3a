import { seamCurvature, type SeamCurvature } from '../../curvature/seam-curvature.js';
import { fitProbe } from '../predictor/fit.js';
import { metricOf } from '../predictor/metric.js';
import type { CurvatureScore } from '../stages/parameters.js';
import type { Fit, Policy } from './policy.js';
import { probeSamples } from './probe-samples.js';

/** Exponents of the cost (CurvatureScore): Ward's factor as second order has it, half of the influence, and the image's level. */
const exponents = { massExponent: 1, influenceExponent: 0.5, imageExponent: -0.25 };

/** Directions of the metric that distances are measured in: they hold 90 % and more of its trace. */
const rankOf = (hidden: number): number => Math.min(hidden, hidden > 512 ? 32 : 16);

/**
 * Merging by curvature, adaptive: pairs that are near in the Fisher metric of the stage and have little predicted influence, under a
 * threshold common to all images. The targets are the traces of the KL Fisher for the tokens' residual vectors: no labels.
 */
export const curvature: Policy<SeamCurvature[]> = {
  needsLabels: false,
  rule: 'merge',
  selection: 'value',
  matchings: 2,
  score: ({ checkpoint, samples, blocks, seed }, context) =>
    seamCurvature(checkpoint, samples, { blocks, seed }, context),
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
