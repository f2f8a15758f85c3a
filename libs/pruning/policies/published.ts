import { seamScores, type SeamScoreKind, type SeamScores } from '../../curvature/seam-scores.js';
import { fitProbe } from '../predictor/fit.js';
import type { PredictedScore } from '../stages/parameters.js';
import type { Fit, Policy } from './policy.js';
import { probeSamples } from './probe-samples.js';

/** Random sign vectors a sample for `heart`. A regression averages over samples: at 8 the loss after pruning was the same. */
const probes = 2;

/**
 * Tokens dropped by a predicted score whose own value would need the label and a backward pass: `heart` is the published zᵀHz
 * under cross-entropy (HEART-ViT, arXiv 2512.20120), signed; `taylor` the first order, |∂L/∂m|. Labels of calibration data only.
 */
export function publishedScore(kind: SeamScoreKind): Policy<SeamScores[]> {
  return {
    needsLabels: true,
    rule: 'drop',
    selection: 'rank',
    matchings: 1,
    score: ({ checkpoint, samples, blocks, seed }, context) =>
      seamScores(kind, checkpoint, samples, { blocks, seed, probes }, context),
    async fit(targets, { blocks, seed }, context) {
      const scores: PredictedScore[] = [];
      const fits: Fit[] = [];
      for (const [stage, target] of targets.entries()) {
        const { probe, r2, rankCorrelation } = await fitProbe(context.runtime, probeSamples(target, target.score), {
          seed: seed + stage,
          target: 'signed',
          signal: context.signal,
          progress: (done, total) => context.progress(stage * total + done, targets.length * total),
        });
        scores.push({
          policy: kind,
          probe,
        });
        fits.push({ block: blocks[stage]!, r2, rankCorrelation });
      }
      return { scores, fits };
    },
  };
}
