/** What bench:policies compares: every policy of the pruner, and a few that tell what its parts are worth. */
import { placeThresholds } from '../../libs/pruning/calibration/table.js';
import type { OpenNetwork } from '../../libs/pruning/calibration/network.js';
import type { PreparedSamples } from '../../libs/pruning/measure/prepared.js';
import { policies, POLICY_NAMES, type PolicyName } from '../../libs/pruning/policies/index.js';
import type { Policy } from '../../libs/pruning/policies/policy.js';
import { flopsAt } from '../../libs/store/segments.js';
import { leastTokens, type StageParameters, type StageScore } from '../../libs/pruning/stages/parameters.js';
import { stageBlocks } from '../../libs/pruning/statistics/schedule.js';

export interface Variant {
  readonly name: string;
  /** Whose fit it uses. */
  readonly policy: PolicyName;
  /** Blocks of the stages in a network of so many. */
  blocks(count: number): number[];
  /** The stages, from the fitted scores. */
  stages(blocks: readonly number[], scores: readonly StageScore[]): StageParameters[];
  /** Thresholds for a nominal share of the FLOPs; undefined where the stages cannot save as much. */
  place(
    network: OpenNetwork,
    search: PreparedSamples,
    share: number,
    dense: number,
  ): Promise<readonly number[] | undefined>;
}

/** The policy as `heartwood prune` runs it. */
function asPruned(name: PolicyName): Variant {
  const { rule, selection, matchings }: Policy = policies[name];
  return {
    name,
    policy: name,
    blocks: (count) => stageBlocks(count),
    stages: (blocks, scores) => scores.map((score, at) => ({ block: blocks[at]!, rule, selection, matchings, score })),
    place: placeThresholds,
  };
}

/** Curvature without what the probe foretells: the Fisher metric and Ward's mass remain. */
const withoutProbe: Variant = {
  ...asPruned('curvature'),
  name: 'curvature, no probe',
  stages: (blocks, scores) =>
    asPruned('curvature')
      .stages(blocks, scores)
      .map((stage) => {
        const { score } = stage;
        if (score.policy !== 'curvature') return stage;
        return { ...stage, score: { ...score, influenceExponent: 0, imageExponent: 0 } };
      }),
};

/** Curvature, but of every image as many tokens. */
const notAdaptive: Variant = {
  ...asPruned('curvature'),
  name: 'curvature, not adaptive',
  stages: (blocks, scores) =>
    asPruned('curvature')
      .stages(blocks, scores)
      .map((stage) => ({ ...stage, selection: 'rank' })),
};

/**
 * ToMe as published: one matching in every block (but the last, after which only the class token counts), the same number r of
 * tokens in each. Where r is no integer the blocks take turns in rounding it up.
 */
const tomeAsPublished: Variant = {
  name: 'tome, as published',
  policy: 'tome',
  blocks: (count) => Array.from({ length: Math.max(1, count - 1) }, (_, block) => block),
  stages: (blocks) =>
    blocks.map((block) => ({ block, rule: 'merge', selection: 'rank', matchings: 1, score: { policy: 'tome' } })),
  place(network, _, share, dense) {
    const saved = (r: number) => 1 - flopsAt(network.segments, constantCounts(network, r), network.tokens) / dense;
    let [low, high] = [0, network.tokens];
    if (saved(high) < share) return Promise.resolve(undefined);
    for (let step = 0; step < 40; step++) {
      const middle = (low + high) / 2;
      if (saved(middle) < share) low = middle;
      else high = middle;
    }
    let before = network.tokens;
    return Promise.resolve(
      constantCounts(network, high).map((after) => {
        const ratio = (before - after) / before;
        before = after;
        return ratio;
      }),
    );
  },
};

/** Tokens after each stage when each takes r, or half of the patches where that is less. */
function constantCounts({ tokens, special, stages }: OpenNetwork, r: number): number[] {
  let before = tokens;
  return stages.map((_, stage) => {
    const wanted = tokens - Math.round(r * (stage + 1));
    before = Math.min(before, Math.max(wanted, special + Math.ceil((before - special) / 2), leastTokens, special + 1));
    return before;
  });
}

/** Rows of the table, in order; those of one policy's fit stand together. */
export const variants: readonly Variant[] = POLICY_NAMES.flatMap((name) => {
  const more: Partial<Record<PolicyName, Variant[]>> = {
    curvature: [withoutProbe, notAdaptive],
    tome: [tomeAsPublished],
  };
  return [asPruned(name), ...(more[name] ?? [])];
});
