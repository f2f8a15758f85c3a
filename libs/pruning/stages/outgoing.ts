import { padTokens, type Tokens } from '../../models/tokens.js';
import type { GraphBuilder } from '../../onnx/builder.js';
import type { Value } from '../../onnx/ir.js';
import {
  add,
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
  range,
  reduceMax,
  reduceSum,
  reshape,
  sub,
  unsqueeze,
  where,
} from '../../onnx/ops/index.js';
import { flat, type Entering } from './entering.js';
import { leastMass } from './matching.js';

/** Where tokens go: int64 [batch, longest] places among those that stay, and int64 [batch, 1] how many stay. */
export interface Moves {
  readonly place: Value;
  readonly count: Value;
}

/**
 * The order-preserving compaction: a token moves up by the number of leaving ones before it; a leaving one goes where `target`
 * (int64 [batch, longest], a place among the tokens that stay) says. leaving bool [batch, longest].
 */
export function compact(
  g: GraphBuilder,
  places: Value,
  count: Value,
  leaving: Value,
  target: (moved: Value, left: Value) => Value,
): Moves {
  const indicator = cast(g, leaving, 'int64');
  const moved = sub(g, places, cumSum(g, indicator, 1));
  const left = sub(g, count, reduceSum(g, indicator, [1]));
  return { place: target(moved, left), count: left };
}

/** 1 where the token of column i goes to place j: [batch, rows, longest]. rows int64 [rows]: 0, 1, … */
export function assignment(g: GraphBuilder, place: Value, rows: Value): Value {
  return cast(g, equal(g, unsqueeze(g, rows, [1]), unsqueeze(g, place, [1])), g.float);
}

/** What each entering token brings to the place that it goes to, and how the masses come out. */
export interface Contribution {
  /** [batch | 1, longest]. */
  readonly weight: Value;
  /** `mean`: weights are masses, and a place gets the weighted mean. `sum`: the weighted sum. */
  readonly combine: 'mean' | 'sum';
  /** [batch | 1, longest]: masses add up at each place. */
  readonly mass: Value;
}

/**
 * The packed tokens after a stage. x' = Q x with Q_ji = E_ji w_i / Σ_i E_ji w_i, one product per sample that reads the tokens once.
 * A weight that is alone at its place is divided by itself, so a token that nothing happens to stays bit for bit.
 * (ScatterND with reduction `add` would be faster, but the runtime's CPU kernel runs over the rows in parallel without a lock: sums
 * over equal indices come out wrong.)
 */
export function packedTokens(
  g: GraphBuilder,
  { seam, width }: Entering,
  { place, count }: Moves,
  { weight, combine, mass }: Contribution,
): Tokens {
  const { layout } = seam.tokens;
  const longest = `longest_${seam.block}`;
  const rows = `rows_${seam.block}`;
  const rank = range(g, reduceMax(g, count, [0, 1], false), longest);
  const there = less(g, rank, count);
  const chosen = assignment(g, place, rank);

  const weighted = mul(g, chosen, unsqueeze(g, weight, [1]));
  const sums = () => matMul(g, chosen, unsqueeze(g, weight, [2]));
  const shares = combine === 'mean' ? div(g, weighted, max(g, sums(), leastMass)) : weighted;
  const padded = matMul(g, shares, padTokens(g, layout, seam.tokens.rows));

  const flatPlaces = `${layout.batch}·${longest}`;
  const places = reshape(g, nonZero(g, reshape(g, there, [flatPlaces]), rows), [rows]);
  const first = cumSum(g, count, 0, true);
  const masses = flat(g, matMul(g, chosen, unsqueeze(g, mass, [2])));
  const packed = {
    places,
    rowsAt: where(g, there, add(g, first, rank), first),
    mass: where(g, there, masses, g.constant(0)),
  };
  return {
    rows: gather(g, reshape(g, padded, [flatPlaces, width]), places),
    layout: { batch: layout.batch, rows, longest, special: layout.special, packed },
  };
}
