import type { GraphBuilder } from '../../onnx/builder.js';
import type { Value } from '../../onnx/ir.js';
import { add, and, cast, div, less, max, not, reduceMax, reduceSum, sub, where } from '../../onnx/ops/index.js';
import { flat, type Entering } from './entering.js';
import { compact, packedTokens, reported } from './outgoing.js';
import { leastTokens, type StageSelection } from './parameters.js';
import { ascendingRank, rankCost } from './rank.js';
import type { TokenScore } from './scores/index.js';
import type { StageResult } from './stage.js';

/**
 * Takes out the tokens whose score is below the threshold (or whose rank is), the least first; `fuse` puts one token in their place,
 * after those that stay: Σ s_i x_i / Σ s_i, of mass 1. Special tokens and the floor hold whatever the score.
 */
export function removeTokens(
  g: GraphBuilder,
  from: Entering,
  { score }: TokenScore,
  rule: 'drop' | 'fuse',
  selection: StageSelection,
  threshold: Value,
): StageResult {
  const infinity = g.constant(Infinity);
  const rank = ascendingRank(g, where(g, from.patches, score, infinity), from.places);
  // A fused token makes up for one that goes.
  const spare = rule === 'fuse' ? leastTokens - 1 : leastTokens;
  const allowed = and(g, from.patches, less(g, rank, sub(g, from.count, Math.max(spare, from.special))));
  const cost = selection === 'rank' ? rankCost(g, rank, from.count) : score;
  const candidates = where(g, allowed, cost, infinity);
  const gone = less(g, candidates, threshold);
  const removed = where(g, gone, score, g.constant(0));
  const stays = cast(g, and(g, from.present, not(g, gone)), g.float);
  const none = g.constant(-1);
  const fuse = rule === 'fuse';
  // What is fused becomes the last token; what is dropped has no place.
  const moves = compact(g, from.places, from.count, gone, (moved, left) => where(g, gone, fuse ? left : none, moved));
  const any = reduceMax(g, cast(g, gone, g.float), [2]);
  const count = fuse ? add(g, moves.count, any) : moves.count;
  const share = fuse ? sharesOf(g, removed) : g.constant(0);

  return {
    tokens: packedTokens(
      g,
      from,
      { ...moves, count },
      { weight: where(g, gone, share, stays), combine: 'sum', mass: where(g, gone, share, from.mass) },
    ),
    ...reported(g, from, { ...moves, count }),
    candidates: [flat(g, candidates)],
    summedCost: reduceSum(g, removed, [2], false),
  };
}

/** s_i / Σ s_i, a row; zeros where all are. Scores are shares of attention, so none is negative. */
function sharesOf(g: GraphBuilder, scores: Value): Value {
  // Relative to the greatest none of them is too small to be divided by.
  const relative = div(g, scores, max(g, reduceMax(g, scores, [2]), leastScore));
  return div(g, relative, max(g, reduceSum(g, relative, [2]), leastScore));
}

/** Keeps the division of nothing by nothing finite. */
const leastScore = 1e-30;
