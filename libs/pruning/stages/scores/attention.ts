import { padTokens } from '../../../models/tokens.js';
import { add, log, mul, reduceMean, reduceSum, reshape, slice, softmax } from '../../../onnx/ops/index.js';
import { fixed } from '../../../onnx/shapes.js';
import { asColumn, asRow } from '../entering.js';
import type { AttentionScore } from '../parameters.js';
import type { ScoreRule } from './score.js';

/**
 * The class token's attention to each token in this block, mean over the heads (Liang et al., EViT, arXiv 2202.07800):
 * softmax_j(q_class·k_j / √d + log n_j).
 */
export const attention: ScoreRule<AttentionScore> = (g, { seam, mass, longest }) => {
  const { keys, queries, heads, tokens } = seam;
  const { layout } = tokens;
  const width = fixed(keys.shape[1], 'the width of the keys') / heads;
  const q = mul(g, slice(g, padTokens(g, layout, queries), 1, 0, 1, 1), 1 / Math.sqrt(width));
  const products = mul(g, padTokens(g, layout, keys), q);
  const perHead = reduceSum(g, reshape(g, products, [layout.batch, longest, heads, width]), [3], false);
  const logits = add(g, perHead, asColumn(g, log(g, mass)));
  return { kind: 'tokens', score: asRow(g, reduceMean(g, softmax(g, logits, 1), [2])) };
};
