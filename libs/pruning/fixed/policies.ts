import { randomFor } from '../../data/random.js';
import type { UnitCurvature } from '../selection/curvature-factors.js';
import type { Bearing } from '../selection/fixed-units.js';
import { shrinkageOf } from '../selection/shrinkage.js';
import { policies, type PolicyName } from '../policies/index.js';
import type { FixedKind, PruningTask } from '../tasks/task.js';

/** What a policy says of units that can go for good, as second order would: the loss of a set s is ½ sᵀHs. */
export interface Judgement {
  readonly curvature: UnitCurvature;
  /** Loss and slopes where some units are gone, for policies that judge anew on the way. @param turn which bearing it is, from 0 */
  readonly bearing?: (gone: readonly number[], turn: number) => Promise<Bearing>;
}

type FixedPolicy = (task: PruningTask, kinds: readonly FixedKind[], seed: number) => Promise<Judgement>;

/** Scores that know no interactions are a diagonal: the loss of a set is the sum of its scores. */
const alone = (scores: ArrayLike<number>): Judgement => ({
  curvature: { kind: 'diagonal', diagonal: Float64Array.from(scores, (score) => 2 * score) },
});

/** Of half of an order's bearings together: as many gradients as the factors took pullbacks, so that they take about as long. */
const usualTurns = 16;

/** The mean KL Hessian over the gates of all kinds, interactions included; where the task can tell them, its slopes on the way. */
const byCurvature: FixedPolicy = async (task, kinds) => {
  const { U, K, directions } = await task.factors(kinds);
  const { divergence } = task;
  if (!divergence) return { curvature: { kind: 'factors', U, K } };
  return {
    curvature: { kind: 'factors', U, K, shrinkage: shrinkageOf({ U, K }, directions) },
    bearing: async (gone, turn) => {
      const samples = Math.ceil(K / usualTurns);
      const { loss, slopes, standardError } = await divergence(kinds, gone, { turn, samples });
      return { loss, gradient: slopes, error: standardError };
    },
  };
};

/** Policies that judge heads and neurons in another way than by curvature; the others differ in what they do with tokens alone. */
const others: Partial<Record<PolicyName, FixedPolicy>> = {
  /** First order: the mean over samples of |∂L/∂m| of the cross-entropy (Molchanov et al., arXiv 1611.06440). */
  taylor: async (task, kinds) => alone(await task.slopes(kinds)),
  /** The squared norm of the weights that go with a unit; by their number, since the best of them saves the most for the least. */
  magnitude: async (task, kinds) => alone(await task.magnitudes(kinds)),
  random: async (task, kinds, seed) => {
    const random = randomFor(seed, 31);
    return alone(task.units(kinds).map(({ cost }) => cost * (((random.next() >>> 0) + 0.5) / 2 ** 32)));
  },
};

/** Policies that have an order of their own for heads and neurons. */
export const FIXED_POLICIES: readonly PolicyName[] = ['curvature', ...(Object.keys(others) as PolicyName[])];

/** How a policy judges the units of these kinds, in the order of `task.units`. */
export function judgementOf(
  policy: PolicyName,
  task: PruningTask,
  kinds: readonly FixedKind[],
  seed: number,
): Promise<Judgement> {
  return (others[policy] ?? byCurvature)(task, kinds, seed);
}

/** Whether a policy's judgement of these units needs labels. */
export function needsLabels(policy: PolicyName, units: readonly string[]): boolean {
  return policies[policy].needsLabels && (units.includes('tokens') || policy in others);
}
