import type { GraphBuilder } from '../../onnx/builder.js';
import type { Value } from '../../onnx/ir.js';
import { add, dimOf, div, expandTo, scatterElements, shapeOf, topK } from '../../onnx/ops/index.js';

/** The ascending rank of each element of a row [batch, 1, n]; of equals the first comes first. places is the row 0, 1, … */
export function ascendingRank(g: GraphBuilder, x: Value, places: Value): Value {
  const { indices } = topK(g, x, dimOf(g, x, 2), x.shape[2]!, false);
  // rank[indices[k]] = k
  const ranks = expandTo(g, places, shapeOf(g, indices), indices.shape);
  return scatterElements(g, ranks, indices, ranks, 2);
}

/** (rank + ½) / tokens: below a threshold ρ lie round(ρ · tokens) ranks. rank is a row, count [batch | 1, 1, 1]. */
export function rankCost(g: GraphBuilder, rank: Value, count: Value): Value {
  return div(g, add(g, rank, 0.5), count);
}
