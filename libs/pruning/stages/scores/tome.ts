import { padTokens } from '../../../models/tokens.js';
import { reduceMean, reshape } from '../../../onnx/ops/index.js';
import { fixed } from '../../../onnx/shapes.js';
import type { TomeScore } from '../parameters.js';
import type { ScoreRule } from './score.js';

/** 1 − cosine of the keys' mean over the heads (Bolya et al., Token Merging, arXiv 2210.09461, section 3). */
export const tome: ScoreRule<TomeScore> = (g, { seam }) => {
  const { keys, heads, tokens } = seam;
  const width = fixed(keys.shape[1], 'the width of the keys') / heads;
  const mean = reduceMean(g, reshape(g, keys, [keys.shape[0]!, heads, width]), [1], false);
  return {
    kind: 'pairs',
    features: padTokens(g, tokens.layout, mean),
    distance: 'cosine',
    massExponent: 0,
  };
};
