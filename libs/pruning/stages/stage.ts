import { internal, invalid } from '../../errors/error.js';
import type { Seam, Tokens } from '../../models/tokens.js';
import type { GraphBuilder } from '../../onnx/builder.js';
import type { Value } from '../../onnx/ir.js';
import { add, and, cast, gatherElements, less, reshape, slice, where } from '../../onnx/ops/index.js';
import { asColumn, entering, flat, type Entering } from './entering.js';
import { candidatePairs, enteringState, mergedCost, mergedState, type PairState } from './matching.js';
import { assignment, compact, packedTokens, reported, type Moves } from './outgoing.js';
import type { StageParameters } from './parameters.js';
import { ascendingRank, rankCost } from './rank.js';
import { removeTokens } from './removal.js';
import { scoreOf, type PairScore } from './scores/index.js';

/** What a stage did. `longest` is the entering layout's. */
export interface StageResult {
  /** The tokens that go on, packed. */
  readonly tokens: Tokens;
  /** int32 [batch, 1]: tokens kept, special ones included. */
  readonly kept: Value;
  /** int32 [batch, longest]: the place among the kept tokens that each entering one went to; −1 where it was dropped or is none. */
  readonly groups: Value;
  /** Of each matching, [batch, longest]: what is compared with its threshold; +∞ where nothing may happen. For calibration. */
  readonly candidates: readonly Value[];
  /** [batch, 1]: Σ exp(log cost) of the merged pairs (log 1 − cosine for `tome`), or Σ score of the removed tokens. */
  readonly summedCost: Value;
}

/**
 * A stage that merges, drops or fuses tokens at run time: how many is up to the sample, and the whole of it is graph.
 * What is below its threshold ([batch, 1] or [batch, 1, 1], one a matching) goes; −∞ keeps every token bit for bit; +∞ takes all that may go,
 * and `leastTokens` stay in any case. Every sample is decided on its own.
 * Throws INVALID_ARGUMENT when the rule does not suit the score or the thresholds are not one a matching.
 */
export function mergeStage(
  g: GraphBuilder,
  seam: Seam,
  parameters: StageParameters,
  thresholds: readonly Value[],
): StageResult {
  const { rule, matchings, score: description, block } = parameters;
  const name = `stage_${block}`;
  if (block !== seam.block) throw internal(`the stage of block ${block} at the seam of block ${seam.block}`);
  if (thresholds.length !== matchings) {
    throw invalid(`${name} has ${matchings} matchings, and ${thresholds.length} thresholds were given`);
  }
  const from = entering(g, seam);
  const score = scoreOf(g, from, description, name);
  if (rule === 'merge' && score.kind === 'pairs') return mergePairs(g, from, score, parameters, thresholds);
  if (rule !== 'merge' && score.kind === 'tokens' && matchings === 1) {
    return removeTokens(g, from, score, rule, parameters.selection, row(g, thresholds[0]!));
  }
  throw invalid(`${name}: rule ${rule} with ${matchings} matchings does not suit the policy ${description.policy}`);
}

/** What a matching does: rows over the places that the one before it left. */
export interface Matching {
  /** Of bool: the tokens that are merged away. */
  readonly merged: Value;
  /** Their log costs. */
  readonly cost: Value;
  /** int64: with whom, counted among the odd places. */
  readonly partner: Value;
}

/** What a merging stage decides before anything is moved. */
export interface PairDecision extends Pick<StageResult, 'candidates' | 'summedCost'> {
  readonly matchings: readonly Matching[];
  readonly moves: Moves;
}

/** Which pairs a merging stage merges, matching by matching. Throws as `mergeStage`. */
export function decidePairs(
  g: GraphBuilder,
  from: Entering,
  score: PairScore,
  { block, selection, matchings }: StageParameters,
  thresholds: readonly Value[],
): PairDecision {
  let state = enteringState(g, from, score);
  const infinity = g.constant(Infinity);
  let moves: Moves | undefined;
  let summedCost: Value | undefined;
  const candidates: Value[] = [];
  const decided: Matching[] = [];
  for (let matching = 0; matching < matchings; matching++) {
    const { cost, allowed, partner } = candidatePairs(g, state, score);
    const ranked = selection === 'rank' ? rankedPairs(g, where(g, allowed, cost, infinity), state) : cost;
    const merged = and(g, less(g, ranked, row(g, thresholds[matching]!)), allowed);
    candidates.push(flat(g, where(g, allowed, ranked, infinity)));
    const spent = mergedCost(g, cost, merged);
    summedCost = summedCost ? add(g, summedCost, spent) : spent;
    decided.push({ merged, cost, partner });

    const step = stepOf(g, state.places, state.count, { merged, partner });
    if (matching + 1 < matchings) {
      state = mergedState(g, state, from, assignment(g, step.place, asColumn(g, from.places)), step.count);
    }
    moves = after(g, moves, step);
  }
  if (!moves || !summedCost) throw invalid(`stage_${block} has ${matchings} matchings, expected at least 1`);
  return { matchings: decided, moves, candidates, summedCost };
}

/** The moves of matchings in a row, whatever chose them. */
export function movesOf(
  g: GraphBuilder,
  { places, count }: Pick<Entering, 'places' | 'count'>,
  matchings: readonly Pick<Matching, 'merged' | 'partner'>[],
): Moves {
  let moves: Moves | undefined;
  for (const matching of matchings) moves = after(g, moves, stepOf(g, places, moves?.count ?? count, matching));
  if (!moves) throw invalid('no matchings, expected at least 1');
  return moves;
}

/** Where one matching moves the tokens that it finds. */
function stepOf(
  g: GraphBuilder,
  places: Value,
  count: Value,
  { merged, partner }: Pick<Matching, 'merged' | 'partner'>,
): Moves {
  return compact(g, places, count, merged, (moved) =>
    where(g, merged, gatherElements(g, oddPlaces(g, moved), partner, 2), moved),
  );
}

/** A further matching takes a token on from where those before put it. */
function after(g: GraphBuilder, moves: Moves | undefined, step: Moves): Moves {
  return moves ? { count: step.count, place: gatherElements(g, step.place, cast(g, moves.place, 'int64'), 2) } : step;
}

function mergePairs(
  g: GraphBuilder,
  from: Entering,
  score: PairScore,
  parameters: StageParameters,
  thresholds: readonly Value[],
): StageResult {
  const { moves, candidates, summedCost } = decidePairs(g, from, score, parameters, thresholds);
  return {
    tokens: packedTokens(g, from, moves, { combine: 'mean' }),
    ...reported(g, from, moves),
    candidates,
    summedCost,
  };
}

/** To [batch, 1, 1]. */
function row(g: GraphBuilder, threshold: Value): Value {
  return reshape(g, threshold, [threshold.shape[0]!, 1, 1]);
}

/** A row at its odd places. */
function oddPlaces(g: GraphBuilder, x: Value): Value {
  return slice(g, x, 2, 1, Number.MAX_SAFE_INTEGER, `${x.shape[2]!}·half`, 2);
}

/** The candidates' ranks among themselves in place of their costs. */
function rankedPairs(g: GraphBuilder, cost: Value, state: PairState): Value {
  return rankCost(g, ascendingRank(g, cost, state.places), state.count);
}
