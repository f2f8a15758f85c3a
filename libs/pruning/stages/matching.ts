import type { GraphBuilder } from '../../onnx/builder.js';
import type { Dim, Value } from '../../onnx/ir.js';
import {
  add,
  clip,
  concat,
  div,
  exp,
  least,
  less,
  log,
  matMul,
  mul,
  pow,
  reciprocal,
  reduceSum,
  reduceSumSquare,
  slice,
  split,
  sqrt,
  transposeLast,
  where,
} from '../../onnx/ops/index.js';
import { asColumn, asRow, farBelow, type Entering } from './entering.js';
import type { Influence, PairScore } from './scores/index.js';

/** The tokens of a stage between two matchings, in the small space: what pair costs are made of. Columns are [batch, longest, 1]. */
export interface PairState {
  readonly longest: Dim;
  /** Rows, as those of `Entering`. */
  readonly places: Value;
  readonly needed: Value;
  /** [batch | 1, 1, 1]. */
  readonly count: Value;
  /** Row, 0 where there is none; undefined while all are 1 and every sample is full. */
  readonly mass: Value | undefined;
  /** Column, as that of `Entering`; undefined where no odd place has one. */
  readonly penalty: Value | undefined;
  /** [batch, longest, r]. */
  readonly features: Value;
  readonly influence: Influence | undefined;
}

export interface Candidates {
  /** Row: the log cost of the cheapest pair of each token of A; anything where there is none. */
  readonly cost: Value;
  /** Row of bool: tokens that may be merged away. */
  readonly allowed: Value;
  /** int64 row: the cheapest partner, counted among the odd places. */
  readonly partner: Value;
}

/** Costs before their logarithm stay above it: what lies below is rounding. */
export const leastDistance = 1e-12;
/** Below every mass; keeps a division by the mass of an empty place finite. */
export const leastMass = 1e-6;
/** Keeps the influence of an empty place from hiding its penalty. */
const leastInfluence = 1e-30;

/** The state in which the tokens of a score enter. */
export function enteringState(g: GraphBuilder, from: Entering, score: PairScore): PairState {
  const { longest, places, needed, count, uniform, special } = from;
  return {
    longest,
    places,
    needed,
    count,
    mass: uniform ? undefined : from.mass,
    penalty: uniform && special === 1 ? undefined : asColumn(g, from.penalty),
    features: score.features,
    influence: score.influence,
  };
}

/**
 * A bipartite matching (ToMe): A are the patch tokens at even places, B those at odd ones; each of A looks for its cheapest partner
 * in B. Places are ranks among the present tokens, so it is the same whatever else is in the batch.
 *
 * cost(i, j) = d_ij · s_i · s_j / (1/n_i + 1/n_j)^β · exp(constant), and its logarithm after the minimum over j.
 *
 * Each sample keeps `leastTokens` by construction: the last tokens of A are no candidates where merging all of A would go below. So
 * there is a partner wherever there is a candidate, and a penalty on the other places of B need be no more than large.
 */
export function candidatePairs(g: GraphBuilder, state: PairState, score: PairScore): Candidates {
  const { longest, mass } = state;
  const halves = typeof longest === 'number' ? Math.floor(longest / 2) : `${longest}·half`;
  const odd = (x: Value, axis = 1) => slice(g, x, axis, 1, Number.MAX_SAFE_INTEGER, halves, 2);
  const constant = (score.constant ?? 0) - (score.distance === 'cosine' ? Math.LN2 : 0);
  const beta = score.massExponent;
  // Two tokens of mass 1 have (1/1 + 1/1)^−β.
  let value = pairCosts(g, state, score, odd, Math.exp(constant - (mass ? 0 : beta * Math.LN2)));
  if (mass && beta !== 0) {
    const inverse = inverseMass(g, mass);
    const sum = add(g, odd(asColumn(g, inverse)), inverse);
    value = div(g, value, beta === 1 ? sum : pow(g, sum, beta));
  }
  const nearest = least(g, value, 1);
  return {
    cost: log(g, clip(g, nearest.value, leastDistance)),
    allowed: less(g, state.needed, state.count),
    partner: nearest.index,
  };
}

/** factor · s_i s_j d_ij, [batch, half, longest]: j of B down, i across. */
function pairCosts(
  g: GraphBuilder,
  { features, influence, penalty }: PairState,
  { distance }: PairScore,
  odd: (x: Value) => Value,
  factor: number,
): Value {
  const f = distance === 'cosine' ? normalised(g, features) : features;
  const square = squares(g, f, penalty);
  if (!influence) {
    const products = matMul(g, mul(g, odd(f), -2 * factor), transposeLast(g, f));
    const sums = add(g, odd(square), asRow(g, square));
    return add(g, products, factor === 1 ? sums : mul(g, sums, factor));
  }
  // d_ij = |f_i|² + |f_j|² − 2 f_i·f_j is one product of (s f, s |f|², s)_i with (−2 s f, s, s |f|²)_j.
  const { scale } = influence;
  const scaled = concat(g, [mul(g, concat(g, [f, square], 2), scale), scale], 2);
  const width = Number(scaled.shape[2]);
  const turn = new Array<number>(width * width).fill(0);
  for (let k = 0; k < width - 2; k++) turn[k * width + k] = -2 * factor;
  turn[(width - 2) * width + width - 1] = turn[(width - 1) * width + width - 2] = factor;
  return matMul(g, matMul(g, odd(scaled), g.constant(turn, [width, width])), transposeLast(g, scaled));
}

/** |f|², very large where there is a penalty: a column. */
function squares(g: GraphBuilder, f: Value, penalty: Value | undefined): Value {
  if (!penalty) return reduceSumSquare(g, f, [2]);
  if (penalty.shape[0] === f.shape[0]) return reduceSumSquare(g, concat(g, [f, penalty], 2), [2]);
  return add(g, reduceSumSquare(g, f, [2]), mul(g, penalty, penalty));
}

/** 1/n, finite where n is 0. */
function inverseMass(g: GraphBuilder, mass: Value): Value {
  return reciprocal(g, clip(g, mass, leastMass));
}

/**
 * The state after a merge. assignment [batch, longest, longest]: 1 where the token of a column goes to the place of a row.
 * Features and ŝ become their mass-weighted means: f'_j = Σ n_i f_i / Σ n_i.
 */
export function mergedState(
  g: GraphBuilder,
  state: PairState,
  { special, specials }: Entering,
  assignment: Value,
  count: Value,
): PairState {
  const { features, influence } = state;
  const width = Number(features.shape[2]);
  const carried = influence ? concat(g, [features, influence.value], 2) : features;
  const weights = state.mass ? mul(g, assignment, state.mass) : assignment;
  const mass = reduceSum(g, weights, [2]);
  const means = mul(g, matMul(g, weights, carried), inverseMass(g, mass));
  const [merged, value] = influence ? split(g, means, 2, [width, 1]) : [means];
  // log 0 where there is nothing. The class token alone is at an even place, where no penalty is looked for.
  const logMass = log(g, mass);
  return {
    ...state,
    count,
    mass: asRow(g, mass),
    penalty: clip(g, special === 1 ? logMass : add(g, logMass, asColumn(g, specials)), farBelow, 0),
    features: merged!,
    influence: influence &&
      value && { ...influence, value, scale: power(g, clip(g, value, leastInfluence), influence.exponent) },
  };
}

/** x^exponent of what is positive; roots are quicker than powers. */
function power(g: GraphBuilder, x: Value, exponent: number): Value {
  if (exponent === 1) return x;
  if (exponent === 0.5) return sqrt(g, x);
  return exponent === 0.25 ? sqrt(g, sqrt(g, x)) : pow(g, x, exponent);
}

/** f / |f|. */
function normalised(g: GraphBuilder, f: Value): Value {
  return div(g, f, sqrt(g, add(g, reduceSumSquare(g, f, [2]), 1e-12)));
}

/** Σ exp(cost) over the merged pairs, [batch, 1]. */
export function mergedCost(g: GraphBuilder, cost: Value, merged: Value): Value {
  return reduceSum(g, where(g, merged, exp(g, cost), g.constant(0)), [2], false);
}
