import type { GraphBuilder } from '../../onnx/builder.js';
import type { Value } from '../../onnx/ir.js';
import { add, cast, dimOf, div, expandTo, scatterElements, shapeOf, topK } from '../../onnx/ops/index.js';

/** The ascending rank of each element in its row, int64; of equals the first comes first. x [batch, n]; places int64 [n]: 0, 1, … */
export function ascendingRank(g: GraphBuilder, x: Value, places: Value): Value {
  const { indices } = topK(g, x, dimOf(g, x, 1), x.shape[1]!, false);
  // rank[indices[k]] = k
  const ranks = expandTo(g, places, shapeOf(g, indices), indices.shape);
  return scatterElements(g, indices, indices, ranks, 1);
}

/** (rank + ½) / tokens: below a threshold ρ lie round(ρ · tokens) ranks. rank int64 [batch, n], count int64 [batch | 1, 1]. */
export function rankCost(g: GraphBuilder, rank: Value, count: Value): Value {
  return div(g, add(g, cast(g, rank, g.float), 0.5), cast(g, count, g.float));
}
