import { setImmediate } from 'node:timers/promises';
import { HeartwoodError } from '../../errors/error.js';
import type { MeasuredRow } from '../calibration/table.js';
import type { AnyJob } from '../job.js';
import type { BitsChoice, FixedPlan } from '../plan.js';
import type { RemovalStep } from '../selection/fixed-units.js';
import { budgetFor } from '../stages/budget.js';
import { budgetTable } from '../statistics/thresholds.js';
import { FIXED_KINDS, removedUnits, type PreparedPart } from '../tasks/task.js';
import { chooseBits } from './choose-bits.js';
import { halve, toCertify } from './halving.js';
import { fixedOrder } from './order.js';
import { nothingRemoved, type RemovedUnits } from './remove.js';

/** Savings, as shares of the dense FLOPs, at which the order of removal is measured. */
const levels = [0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8];
const stepsAtOnce = 16;
/** Beside tokens, this much at most: the rest is what thresholds can still be adjusted by when the plan is certified. */
const fixedShare = 0.35;

/** The first units of an order of removal, measured. */
export interface MeasuredPrefix {
  readonly removed: RemovedUnits;
  /** Of the samples that H is of: the loss at the last bearing, and second order since; nats per prediction. */
  readonly predicted: number;
  /** Share of the dense FLOPs. */
  readonly saved: number;
  /** Mean KL on the searched samples, nats. */
  readonly measured: number;
}

/**
 * Chooses the heads and neurons to remove, of weights with the bits that were asked for; none when none of it was asked for. In order of FLOPs saved per predicted nat, under the
 * default policy with interactions (½ sᵀHs with the mean KL Hessian over the gates of both kinds, and slopes measured on the way); how far along that order is then decided
 * by what the searched samples measure, together with what merging tokens saves for the rest of the target.
 *
 * @param tokenRows measures what merging tokens costs and saves by itself; none where no tokens are merged
 * @returns the choice; where it alone has to meet a budget prefixes that the searched samples found within it, the safest first,
 *   for certification to find the last that holds
 */
export async function chooseFixedUnits(
  job: AnyJob,
  tokenRows: () => Promise<readonly MeasuredRow[]>,
): Promise<readonly FixedPlan[]> {
  const { request, task } = job;
  if (request.units.includes('bits') && request.bits === undefined) return chooseBits(job);
  const kinds = FIXED_KINDS.filter((kind) => request.units.includes(kind));
  const bits = request.bits === undefined ? undefined : task.uniformBits(request.bits);
  if (kinds.length === 0 && !bits) return [];
  const units = task.units(kinds);
  const { policy, seed, lossBudget, flopsSaved } = request;
  const order = fixedOrder(task, { policy, kinds, seed });
  const removed = (steps: readonly RemovalStep[]) =>
    removedUnits(
      steps.map(({ unit }) => units[unit]!),
      task.blocks,
    );
  const prefixes = await measureOrder(job, await task.prepare('search'), order, removed, bits);
  const rows = await tokenRows();
  const chosen =
    rows.length === 0 && lossBudget !== undefined
      ? toCertify(prefixes, lossBudget)
      : [lossBudget !== undefined ? withinBudget(prefixes, rows, lossBudget) : saving(prefixes, rows, flopsSaved!)];
  // Fewer bits that alone cost more than the budget are refused with what they cost.
  const tried = bits && chosen.length === 0 ? prefixes.slice(0, 1) : chosen;
  const plans = tried
    .filter((prefix) => prefix !== undefined)
    .map(({ removed, predicted, measured }): FixedPlan => ({
      ...removed,
      ...(bits ? { bits } : {}),
      predicted,
      measured,
    }));
  if (plans.length > 0) return plans;
  if (rows.length > 0 || lossBudget !== undefined)
    return [{ ...nothingRemoved(task.blocks), predicted: 0, measured: 0 }];
  const most = Math.max(0, ...prefixes.map(({ saved }) => saved));
  throw new HeartwoodError(
    'FAILED_PRECONDITION',
    `a share of ${flopsSaved} of the FLOPs cannot be saved by ${kinds.join(' and ')} alone; the most that can is ${most.toFixed(3)}`,
  );
}

/**
 * Measures the order of removal at growing savings, until the target is behind it: second order foretells the order well, and less and
 * less how much it costs the more is removed.
 */
async function measureOrder(
  job: AnyJob,
  part: PreparedPart,
  order: AsyncIterable<RemovalStep>,
  removed: (steps: readonly RemovalStep[]) => RemovedUnits,
  bits: BitsChoice | undefined,
): Promise<MeasuredPrefix[]> {
  const { request, context, dense } = job;
  const { lossBudget = Infinity, flopsSaved = Infinity } = request;
  const prefixes: MeasuredPrefix[] = [];
  const steps: RemovalStep[] = [];
  const network = await part.openGated(bits);
  const measure = async (count: number) => {
    const { predicted, saved } = steps[count - 1] ?? { predicted: 0, saved: 0 };
    const units = removed(steps.slice(0, count));
    const measured = await network.measure(units);
    prefixes.push({ removed: units, predicted, saved: saved / dense, measured });
    context.progress({ stage: 'plan', done: prefixes.length, total: levels.length, unit: 'plans' });
    return measured;
  };
  try {
    let within = 0;
    const first = bits ? 1 : 0;
    // Fewer bits may cost all of the budget by themselves.
    if (bits && (await measure(0)) > lossBudget) return prefixes;
    for await (const step of order) {
      // Thousands of steps in a row would keep the process from its signals, streams and leases.
      if (steps.length % stepsAtOnce === 0) await setImmediate();
      context.signal.throwIfAborted();
      steps.push(step);
      const saved = step.saved / dense;
      const target = saved >= flopsSaved;
      if (saved < (levels[prefixes.length - first] ?? Infinity) && !target) continue;
      const measured = await measure(steps.length);
      if (target) return prefixes;
      if (measured > lossBudget) {
        await halve(within, steps.length, lossBudget, measure);
        return prefixes;
      }
      within = steps.length;
    }
    const last = steps.at(-1);
    if (last && last.saved / dense > (prefixes.at(-1)?.saved ?? 0)) await measure(steps.length);
    return prefixes;
  } finally {
    await network.dispose();
  }
}

/** The prefix that, with tokens merged for what is left of the budget, saves the most. */
function withinBudget(
  prefixes: readonly MeasuredPrefix[],
  rows: readonly MeasuredRow[],
  budget: number,
): MeasuredPrefix | undefined {
  let [best, most] = [undefined as MeasuredPrefix | undefined, savedFor(rows, budget)];
  for (const prefix of prefixes) {
    const rest = budget - prefix.measured;
    if (prefix.measured > fixedShare * budget) continue;
    const saved = 1 - (1 - prefix.saved) * (1 - savedFor(rows, rest));
    if (saved > most) [best, most] = [prefix, saved];
  }
  return best;
}

/** The prefix that, with tokens merged for the rest of the saving, costs the least. */
function saving(
  prefixes: readonly MeasuredPrefix[],
  rows: readonly MeasuredRow[],
  wanted: number,
): MeasuredPrefix | undefined {
  if (rows.length === 0) return prefixes.find(({ saved }) => saved >= wanted);
  const reach = Math.max(...rows.map(({ flopsSaved }) => flopsSaved));
  const table = budgetTable(rows);
  let [best, least] = [undefined as MeasuredPrefix | undefined, wanted <= reach ? budgetFor(table, wanted) : Infinity];
  for (const prefix of prefixes) {
    const rest = 1 - (1 - wanted) / (1 - prefix.saved);
    if (rest > reach) continue;
    const loss = prefix.measured + (rest > 0 ? budgetFor(table, rest) : 0);
    if (loss < least) [best, least] = [prefix, loss];
  }
  return best;
}

/** FLOPs that merging saves at a budget: linear in log ε between measured rows, the ends clamped, from nothing at nothing. */
function savedFor(rows: readonly MeasuredRow[], budget: number): number {
  const sorted = [...rows].sort((a, b) => a.kl - b.kl);
  const next = sorted.findIndex(({ kl }) => kl >= budget);
  if (next < 0) return sorted.at(-1)!.flopsSaved;
  if (next === 0) return (sorted[0]!.flopsSaved * budget) / sorted[0]!.kl;
  const [a, b] = [sorted[next - 1]!, sorted[next]!];
  const share = Math.log(budget / a.kl) / Math.log(b.kl / a.kl);
  return a.flopsSaved + share * (b.flopsSaved - a.flopsSaved);
}
