import type { PolicyName } from '../policies/index.js';
import {
  guidedRemovals,
  leastHeads,
  leastNeurons,
  removals,
  type RemovalStep,
  type UnitFamily,
} from '../selection/fixed-units.js';
import type { FixedKind, FixedUnit, PruningTask } from '../tasks/task.js';
import { judgementOf } from './policies.js';

/** Bearings on the way through all units: closer ones cost time and make the order hardly better (docs/estimators.md). */
const bearings = 32;

/** What an order is of. */
export interface OrderOptions {
  readonly policy: PolicyName;
  readonly kinds: readonly FixedKind[];
  readonly seed: number;
  /** What a unit saves. Default: its FLOPs. */
  readonly cost?: (unit: FixedUnit) => number;
}

/**
 * The order in which units of these kinds go by a policy: the most saved per nat first. Steps name units by their place in `task.units(kinds)`. By
 * curvature, loss and slopes are measured again on the way, on samples of the fitting part alone. Throws CANCELLED.
 */
export async function* fixedOrder(
  task: PruningTask,
  { policy, kinds, seed, cost = (unit) => unit.cost }: OrderOptions,
): AsyncGenerator<RemovalStep, undefined> {
  const units = task.units(kinds);
  if (units.length === 0) return undefined;
  const { curvature, bearing } = await judgementOf(policy, task, kinds, seed);
  const costs = units.map((unit) => cost(unit));
  const family: UnitFamily = {
    name: 'units',
    curvature,
    cost: costs,
    group: units.map(({ group }) => group),
    least: leastOf(task.blocks),
  };
  if (!bearing) return yield* removals([family]);
  const every = costs.reduce((a, b) => a + b, 0) / bearings;
  let turn = 0;
  return yield* guidedRemovals(family, { every, bearing: (gone) => bearing(gone, turn++) });
}

/** How many of each group (heads of every block, then neurons of every block) stay. */
export function leastOf(blocks: number): number[] {
  return [...new Array<number>(blocks).fill(leastHeads), ...new Array<number>(blocks).fill(leastNeurons)];
}
