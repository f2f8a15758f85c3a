import type { GraphBuilder } from '../../onnx/builder.js';
import type { Dim, Value } from '../../onnx/ir.js';
import {
  add,
  and,
  argMin,
  concat,
  div,
  equal,
  exp,
  gatherElements,
  greaterOrEqual,
  less,
  log,
  matMul,
  max,
  min,
  mod,
  mul,
  pow,
  reciprocal,
  reduceSum,
  slice,
  sqrt,
  transposeLast,
  unsqueeze,
  where,
} from '../../onnx/ops/index.js';
import { flat } from './entering.js';
import { leastTokens } from './parameters.js';
import type { PairScore } from './scores/index.js';

/** The tokens of a stage between two matchings, in the small space: what pair costs are made of. */
export interface PairState {
  readonly longest: Dim;
  readonly special: number;
  /** True while every mass is 1 and every sample full. */
  readonly uniform: boolean;
  /** int64 [longest]. */
  readonly places: Value;
  /** int64 [batch | 1, 1]. */
  readonly count: Value;
  /** [batch | 1, longest]; 0 where there is none. */
  readonly mass: Value;
  /** [batch, longest, r]. */
  readonly features: Value;
  /** [batch, longest]. */
  readonly logInfluence: Value | undefined;
}

export interface Candidates {
  /** [batch, longest]: the log cost of the cheapest pair of each token of A; +∞ where there is none. */
  readonly cost: Value;
  /** bool [batch | 1, longest]: tokens that may be merged away. */
  readonly allowed: Value;
  /** int64 [batch, longest]: the place of the cheapest partner. */
  readonly partner: Value;
}

/** Squared distances below it are rounding. */
export const leastDistance = 1e-12;

/**
 * A bipartite matching (ToMe): A are the patch tokens at even places, B those at odd ones; each of A looks for its cheapest partner
 * in B. Places are ranks among the present tokens, so it is the same whatever else is in the batch.
 *
 * log cost(i, j) = log d_ij − β log(1/n_i + 1/n_j) + ½α (log ŝ_i + log ŝ_j) + the image's term. What depends on i alone is added
 * after the minimum over j.
 *
 * Each sample keeps `leastTokens` by construction: the last tokens of A are no candidates where merging all of A would go below.
 */
export function candidatePairs(g: GraphBuilder, state: PairState, score: PairScore): Candidates {
  const { longest, places, uniform } = state;
  const f = score.distance === 'cosine' ? normalised(g, state.features) : state.features;
  const halves = typeof longest === 'number' ? Math.floor(longest / 2) : `${longest}·half`;
  const odd = (x: Value, axis: number) => slice(g, x, axis, 1, Number.MAX_SAFE_INTEGER, halves, 2);

  // d_ij = |f_i|² + |f_j|² − 2 f_i·f_j, [batch, longest, half].
  const square = reduceSum(g, mul(g, f, f), [2]);
  const products = matMul(g, f, transposeLast(g, mul(g, odd(f, 1), -2)));
  let value = add(g, add(g, products, square), transposeLast(g, odd(square, 1)));
  // × ŝ_j^(α/2) / (1/n_i + 1/n_j)^β
  const half = score.halfInfluenceExponent;
  const influence = state.logInfluence && half !== 0 ? mul(g, state.logInfluence, half) : undefined;
  if (influence) value = mul(g, value, unsqueeze(g, exp(g, odd(influence, 1)), [1]));
  const beta = score.massExponent;
  if (beta !== 0 && !uniform) {
    const inverse = reciprocal(g, max(g, state.mass, leastMass));
    const sum = add(g, unsqueeze(g, inverse, [2]), unsqueeze(g, odd(inverse, 1), [1]));
    value = div(g, value, beta === 1 ? sum : pow(g, sum, beta));
  }
  // Places of B without a patch token.
  if (!uniform || state.special > 1) {
    const oddPlaces = odd(places, 0);
    const valid = and(g, less(g, oddPlaces, state.count), greaterOrEqual(g, oddPlaces, g.integers(state.special)));
    value = add(g, value, unsqueeze(g, where(g, valid, g.constant(0), g.constant(Infinity)), [1]));
  }
  const nearest = argMin(g, value, 2);
  const least = flat(g, gatherElements(g, value, nearest, 2));
  let cost = log(g, max(g, least, leastDistance));
  if (influence) cost = add(g, cost, influence);
  const constant = (uniform ? -beta * Math.LN2 : 0) - (score.distance === 'cosine' ? Math.LN2 : 0);
  if (constant !== 0) cost = add(g, cost, constant);
  if (score.imageTerm) cost = add(g, cost, score.imageTerm);

  const allowed = candidatePlaces(g, state);
  const partner = add(g, mul(g, flat(g, nearest), 2), 1);
  return { cost: where(g, allowed, cost, g.constant(Infinity)), allowed, partner };
}

/** Even places of patch tokens, and of them as many as may go: place < min(count, first + 2 (count − least)). */
function candidatePlaces(g: GraphBuilder, { places, count, special }: PairState): Value {
  const first = special + (special % 2);
  const floor = Math.max(leastTokens, special + 1);
  const even = equal(g, mod(g, places, g.integers(2)), g.integers(0));
  const limit = min(g, count, add(g, mul(g, count, 2), g.integers(first - 2 * floor)));
  return and(g, and(g, even, greaterOrEqual(g, places, g.integers(first))), less(g, places, limit));
}

/** Below every mass; keeps a division by the mass of an empty place finite. */
export const leastMass = 1e-6;

/**
 * The state after a merge. assignment [batch, longest, longest]: 1 where the token of a column goes to the place of a row.
 * Features and ŝ become their mass-weighted means: f'_j = Σ n_i f_i / Σ n_i.
 */
export function mergedState(g: GraphBuilder, state: PairState, assignment: Value, count: Value): PairState {
  const { features, logInfluence } = state;
  const weight = unsqueeze(g, state.mass, [2]);
  const carried = logInfluence ? concat(g, [features, unsqueeze(g, exp(g, logInfluence), [2])], 2) : features;
  const mass = matMul(g, assignment, weight);
  const means = div(g, matMul(g, assignment, mul(g, carried, weight)), max(g, mass, leastMass));
  const width = Number(features.shape[2]);
  return {
    ...state,
    uniform: false,
    count,
    mass: flat(g, mass),
    features: logInfluence ? slice(g, means, 2, 0, width) : means,
    logInfluence: logInfluence && log(g, max(g, flat(g, slice(g, means, 2, width, width + 1)), 1e-30)),
  };
}

/** f / |f|. */
function normalised(g: GraphBuilder, f: Value): Value {
  return div(g, f, sqrt(g, add(g, reduceSum(g, mul(g, f, f), [2]), 1e-12)));
}

/** Σ exp(cost) over the merged pairs, [batch, 1]. */
export function mergedCost(g: GraphBuilder, cost: Value, merged: Value): Value {
  return reduceSum(g, where(g, merged, exp(g, cost), g.constant(0)), [1]);
}
