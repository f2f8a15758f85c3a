import type { Packing, Tokens } from '../../models/tokens.js';
import type { GraphBuilder } from '../../onnx/builder.js';
import type { Value } from '../../onnx/ir.js';
import {
  cast,
  cumSum,
  div,
  equal,
  gather,
  less,
  matMul,
  max,
  mul,
  nonZero,
  reduceMax,
  reduceSum,
  reshape,
  reshapeTo,
  shapeOf,
  sliceBy,
  sub,
  where,
} from '../../onnx/ops/index.js';
import { asColumn, asRow, flat, padded, type Entering } from './entering.js';
import { leastMass } from './matching.js';

/** Where tokens go: a row of places among those that stay, and [batch, 1, 1] how many stay. */
export interface Moves {
  readonly place: Value;
  readonly count: Value;
}

/**
 * The order-preserving compaction: a token moves up by the number of leaving ones before it; a leaving one goes where `target`
 * (a row of places among the tokens that stay) says. leaving is a row of bool.
 */
export function compact(
  g: GraphBuilder,
  places: Value,
  count: Value,
  leaving: Value,
  target: (moved: Value, left: Value) => Value,
): Moves {
  const indicator = cast(g, leaving, g.float);
  const moved = sub(g, places, cumSum(g, indicator, 2));
  const left = sub(g, count, reduceSum(g, indicator, [2]));
  return { place: target(moved, left), count: left };
}

/** 1 where the token of column i goes to place j: [batch, places, longest]. places is a column 0, 1, … */
export function assignment(g: GraphBuilder, place: Value, places: Value): Value {
  return cast(g, equal(g, places, place), g.float);
}

/** What a stage says of its moves: int32 [batch, 1] tokens kept, int32 [batch, longest] the place that each token went to. */
export function reported(
  g: GraphBuilder,
  { present }: Entering,
  { place, count }: Moves,
): { kept: Value; groups: Value } {
  return {
    kept: cast(g, reshape(g, count, [count.shape[0]!, 1]), 'int32'),
    groups: flat(g, cast(g, where(g, present, place, g.constant(-1)), 'int32')),
  };
}

/** What each entering token brings to the place that it goes to, and how the masses come out. */
export type Contribution =
  /** A place gets the mean of its tokens, weighted by mass. */
  | { readonly combine: 'mean' }
  /** A place gets the weighted sum of its tokens, and the sum of these masses: rows. */
  | { readonly combine: 'sum'; readonly weight: Value; readonly mass: Value };

/**
 * The packed tokens after a stage. x' = Q x with Q_ji = E_ji w_i / Σ_i E_ji w_i, one product per sample that reads the tokens once.
 * A weight that is alone at its place is divided by itself, so a token that nothing happens to stays bit for bit.
 * (ScatterND with reduction `add` would be faster, but the runtime's CPU kernel runs over the rows in parallel without a lock: sums
 * over equal indices come out wrong.)
 */
export function packedTokens(
  g: GraphBuilder,
  from: Entering,
  { place, count }: Moves,
  contribution: Contribution,
): Tokens {
  const { seam, width } = from;
  const { layout } = seam.tokens;
  const longest = `longest_${seam.block}`;
  const rows = `rows_${seam.block}`;
  const all = g.constant([...Array(layout.full).keys()], [1, layout.full, 1]);
  const places = sliceBy(g, all, 1, g.integers([0]), cast(g, reduceMax(g, count, [0, 1], false), 'int64'), longest);
  const chosen = assignment(g, place, places);
  const { shares, mass } = sharesOf(g, from, chosen, contribution);
  const everywhere = `${layout.batch}·${longest}`;
  const gathered = reshape(g, matMul(g, shares, padded(g, from, seam.tokens.rows)), [everywhere, width]);
  const there = reshape(g, less(g, places, count), [everywhere]);
  // The last token before or at a place: a place without one repeats the sample's last.
  const latest = sub(g, cumSum(g, cast(g, there, 'int64'), 0), 1);
  const scattered = {
    places: reshape(g, nonZero(g, there, rows), [rows]),
    rowsAt: reshapeTo(g, latest, shapeOf(g, mass, 0, 2), [layout.batch, longest]),
  };
  const packed: Packing = { scattered, mass: asRow(g, mass), count };
  return {
    rows: gather(g, gathered, scattered.places),
    layout: { ...layout, rows, longest, packed },
  };
}

/** Q of `packedTokens` [batch, places, longest], and the masses that come out, a column (0 where there is no token). */
function sharesOf(
  g: GraphBuilder,
  { uniform, mass }: Entering,
  chosen: Value,
  contribution: Contribution,
): { shares: Value; mass: Value } {
  if (contribution.combine === 'sum') {
    const { weight } = contribution;
    return { shares: mul(g, chosen, weight), mass: matMul(g, chosen, asColumn(g, contribution.mass)) };
  }
  const weighted = uniform ? chosen : mul(g, chosen, mass);
  const sums = reduceSum(g, weighted, [2]);
  return { shares: div(g, weighted, max(g, sums, leastMass)), mass: sums };
}
