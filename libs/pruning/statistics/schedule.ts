import { invalid } from '../../errors/error.js';
import { flopsAt, type Segment } from '../../store/segments.js';
import { leastTokens } from '../stages/parameters.js';

/** Depths at which merging stages sit, as shares of the blocks: tokens that go early save the most, and measured best. */
export const stageDepths: readonly number[] = [0, 1 / 6, 1 / 3];

/** The blocks of the stages, ascending: round(L · depth), each once. L = 6 gives 0, 1, 2; L = 12 gives 0, 2, 4; L = 1 gives 0. */
export function stageBlocks(blocks: number, depths: readonly number[] = stageDepths): number[] {
  if (!Number.isInteger(blocks) || blocks < 1) throw invalid(`a network has ${blocks} blocks, expected at least 1`);
  const places = depths.map((depth) => Math.min(blocks - 1, Math.round(blocks * depth)));
  return [...new Set(places)].sort((a, b) => a - b);
}

export interface ScheduleProblem {
  /** Tokens that enter the first stage, special ones included. */
  readonly tokens: number;
  /** Class and distillation tokens, which are never merged. */
  readonly special: number;
  /** Costs by segment (`segments.ts`), one more than stages. */
  readonly segments: readonly Segment[];
  /** FLOPs of which a fraction is to be saved: those of the dense model. Default: those of the segments with all tokens. */
  readonly dense?: number;
  /** Matchings of a stage. One merges at most half of the tokens that are not special. Default 2. */
  readonly matchings?: number;
  /** Tokens that stay in any case. Default `leastTokens`. */
  readonly floor?: number;
  /** How much more than the mean the first stage takes, and the last one less, in log tokens: 0.25 gives 1.25, 1, 0.75. Default 0. */
  readonly taper?: number;
}

export interface Schedule {
  /** Mean tokens after each stage, not rounded. */
  readonly tokens: readonly number[];
  /** ρ: the share of the tokens that each stage takes. */
  readonly ratio: number;
  /** Fraction of the dense FLOPs that these counts save; less than was asked where the limits of the stages forbid more. */
  readonly saved: number;
}

/**
 * The geometric schedule: stage k leaves (1 − ρ)^w_k of the tokens that it finds, with w_k = 1 or tapering, ρ by bisection so that the
 * FLOPs are (1 − fraction) of the dense model's. At 65 % saved its KL is a half to a third of that of a constant number per stage.
 * @throws HeartwoodError INVALID_ARGUMENT for a fraction outside [0, 1)
 */
export function geometricSchedule(problem: ScheduleProblem, fraction: number): Schedule {
  const { tokens, segments } = problem;
  if (!(fraction >= 0 && fraction < 1)) throw invalid(`the fraction to save is ${fraction}, expected 0 … 1, without 1`);
  const stages = segments.length - 1;
  const dense =
    problem.dense ??
    flopsAt(
      segments,
      Array.from({ length: stages }, () => tokens),
      tokens,
    );
  const at = (ratio: number): Schedule => {
    const counts = countsAt(problem, stages, ratio);
    return { tokens: counts, ratio, saved: 1 - flopsAt(segments, counts, tokens) / dense };
  };
  let [low, high] = [0, 1];
  if (at(high).saved <= fraction) return at(high);
  if (at(low).saved >= fraction) return at(low);
  for (let step = 0; step < 60; step++) {
    const middle = (low + high) / 2;
    if (at(middle).saved < fraction) low = middle;
    else high = middle;
  }
  return at(high);
}

function countsAt(
  { tokens, special, matchings = 2, floor = leastTokens, taper = 0 }: ScheduleProblem,
  stages: number,
  ratio: number,
): number[] {
  const counts: number[] = [];
  let before = tokens;
  let exponent = 0;
  for (let stage = 0; stage < stages; stage++) {
    const mergeable = special + (before - special) / 2 ** matchings;
    exponent += stages > 1 ? 1 + taper * (1 - (2 * stage) / (stages - 1)) : 1;
    const wanted = tokens * (1 - ratio) ** exponent;
    before = Math.min(before, Math.max(wanted, mergeable, Math.max(floor, special)));
    counts.push(before);
  }
  return counts;
}

/**
 * How many tokens each matching of a stage merges per sample, when the stage takes it from `before` to `after`: the same number each,
 * but none more than half of those that it finds, so that the first ones take more where the later could not.
 */
export function mergesOf(before: number, after: number, special: number, matchings: number): number[] {
  let patches = before - special;
  let left = Math.max(0, before - after);
  return Array.from({ length: matchings }, (_, matching) => {
    const even = left / (matchings - matching);
    // Half at most, and what is left to the later ones at most half of what they find.
    const rest = patches - left;
    const needed = patches - rest * 2 ** (matchings - matching - 1);
    const merged = Math.min(patches / 2, Math.max(even, needed));
    patches -= merged;
    left -= merged;
    return merged;
  });
}
