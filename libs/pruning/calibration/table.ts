import { meanOf } from '../measure/measure.js';
import type { PreparedSamples } from '../measure/prepared.js';
import { flopsAt } from '../../store/segments.js';
import type { BudgetRow } from '../stages/budget.js';
import type { StageParameters } from '../stages/parameters.js';
import { geometricSchedule, mergesOf } from '../statistics/schedule.js';
import { pooledThreshold } from '../statistics/thresholds.js';
import type { OpenNetwork } from './network.js';

/** Nominal shares of FLOPs to save, each a row of the table. */
export function gridOf(step: number): number[] {
  const rows: number[] = [];
  for (let share = step; share < 0.86; share += step) rows.push(Number(share.toFixed(4)));
  return rows;
}

/** A share that the schedule misses by more than this is beyond the limits of the stages. */
const unreachable = 0.005;

/**
 * Later merges cost more: the tokens have become what the answer is made of. Against none, on certifying samples of the demo (of
 * vit-cifar10), KL came to 0.6 (0.9) of it at 50 % and 0.3 (0.8) at 65 % fewer FLOPs; at 30 % it was the same.
 */
const taper = 0.25;

/** One row: thresholds, and what the searched samples say that they cost and save. */
export interface MeasuredRow extends BudgetRow {
  /** Mean rise of the cross-entropy; null without labels. */
  readonly crossEntropyRise: number | null;
  readonly accuracy: number | null;
  readonly kept: readonly number[];
}

/**
 * Places the thresholds that save one nominal share of FLOPs: stage by stage and matching by matching, each at the cost at which as
 * many merges happen as the schedule wants, all samples together (so that easy samples merge more). Ranks need no look at the data.
 */
export async function placeThresholds(
  network: OpenNetwork,
  samples: PreparedSamples,
  share: number,
  dense: number,
): Promise<number[] | undefined> {
  const { stages, tokens, special, segments } = network;
  // One matching of pairs takes half of the patches at most; dropping and fusing may take all.
  const matchings = Math.max(...stages.map((stage) => (stage.rule === 'merge' ? stage.matchings : 16)));
  const { tokens: counts, saved } = geometricSchedule({ tokens, special, segments, dense, matchings, taper }, share);
  if (saved < share - unreachable) return undefined;
  return placeAt(network, samples, counts);
}

/** The thresholds at which each stage leaves so many tokens on average. */
export async function placeAt(
  { stages, tokens, special, candidates }: OpenNetwork,
  samples: PreparedSamples,
  counts: readonly number[],
): Promise<number[]> {
  const thresholds = new Array<number>(stages.reduce((sum, { matchings }) => sum + matchings, 0)).fill(-Infinity);
  let at = 0;
  let present = tokens;
  for (const [stage, parameters] of stages.entries()) {
    for (const [matching, merges] of takenBy(present, counts[stage]!, special, parameters).entries()) {
      if (parameters.selection === 'rank') {
        thresholds[at] = merges / present;
      } else {
        const costs = await candidates(samples, stage, matching, thresholds);
        thresholds[at] = pooledThreshold(costs, merges * samples.size);
      }
      present -= merges;
      at++;
    }
    present = counts[stage]!;
  }
  return thresholds;
}

/** How many tokens each matching of a stage takes, on average. */
function takenBy(before: number, after: number, special: number, { matchings, rule }: StageParameters): number[] {
  if (rule === 'merge') return mergesOf(before, after, special, matchings);
  // What is fused comes back as one token.
  return [rule === 'fuse' && before > after ? before - after + 1 : before - after];
}

/** Measures one row. @param dense FLOPs of a sample of version 1 */
export async function measureRow(
  network: OpenNetwork,
  samples: PreparedSamples,
  thresholds: readonly number[],
  dense: number,
): Promise<MeasuredRow> {
  const measures = await network.measure(samples, thresholds);
  const { kl, crossEntropyRise, prunedCorrect, kept } = measures;
  return {
    flopsSaved: 1 - meanOf(kept.map((row) => flopsAt(network.segments, row, network.tokens))) / dense,
    kl: meanOf(kl),
    // JSON has no infinities; beyond these lies no cost.
    thresholds: thresholds.map((value) => Math.max(-100, Math.min(100, value))),
    crossEntropyRise: crossEntropyRise ? meanOf(crossEntropyRise) : null,
    accuracy: prunedCorrect ? meanOf(prunedCorrect) : null,
    kept: network.stages.map((_, stage) => meanOf(kept.map((row) => row[stage]!))),
  };
}

/** The rows of all shares of a grid that can be reached, in order. */
export async function measureRows(
  network: OpenNetwork,
  samples: PreparedSamples,
  grid: readonly number[],
  dense: number,
  progress: (done: number, total: number) => void,
): Promise<MeasuredRow[]> {
  const rows: MeasuredRow[] = [];
  for (const [at, share] of grid.entries()) {
    const thresholds = await placeThresholds(network, samples, share, dense);
    if (thresholds) rows.push(await measureRow(network, samples, thresholds, dense));
    progress(at + 1, grid.length);
  }
  return rows;
}
