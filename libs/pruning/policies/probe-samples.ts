import type { SeamFeatures } from '../../curvature/seam-features.js';
import type { ProbeSamples } from '../predictor/fit.js';

/** What a probe is fitted on: the features at a seam, and a target [samples, tokens] of the tokens that were kept. */
export function probeSamples(features: SeamFeatures, target: Float32Array): ProbeSamples {
  const { samples, fitTokens, tokens, hidden, chosen, x, classToken, meanToken } = features;
  const count = samples * fitTokens;
  const image = new Int32Array(count);
  const targets = new Float32Array(count);
  for (let at = 0; at < count; at++) {
    const sample = Math.floor(at / fitTokens);
    image[at] = sample;
    targets[at] = target[sample * tokens + chosen[at]!]!;
  }
  return { hidden, tokens: x, cls: classToken, mean: meanToken, image, target: targets };
}
