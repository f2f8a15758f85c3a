import { setImmediate } from 'node:timers/promises';
import { HeartwoodError } from '../../errors/error.js';
import { curvatureFactors } from '../../curvature/factors.js';
import { specOf } from '../../models/classifier.js';
import type { ClassifierSpec } from '../../models/architectures/transformer.js';
import { measureRows, type MeasuredRow } from '../calibration/table.js';
import { openNetwork } from '../calibration/network.js';
import { preparePart } from '../calibration/search.js';
import type { Job } from '../job.js';
import type { PreparedSamples } from '../measure/prepared.js';
import type { FixedPlan } from '../plan.js';
import { leastHeads, leastNeurons, removals, type RemovalStep, type UnitFamily } from '../selection/fixed-units.js';
import type { StageParameters } from '../stages/parameters.js';
import { budgetFor } from '../stages/budget.js';
import { budgetTable } from '../statistics/thresholds.js';
import { openGatedNetwork, type MeasuredPrefix } from './prefixes.js';
import { nothingRemoved, type RemovedUnits } from './remove.js';

/** Savings, as shares of the dense FLOPs, at which the order of removal is measured. */
const levels = [0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8];
const stepsAtOnce = 16;
/** Of a budget that nothing can be adjusted to afterwards, this much is planned for. */
const caution = 0.6;
/** Beside tokens, this much at most: the rest is what thresholds can still be adjusted by when the plan is certified. */
const fixedShare = 0.35;
/** Nominal savings at which tokens are measured, to split the target between them and the units that go for good. */
const coarse = [0.15, 0.3, 0.45, 0.6, 0.75];

/**
 * Chooses the heads and neurons to remove; null when none were asked for. In order of FLOPs saved per predicted nat, interactions
 * included (½ sᵀHs with the mean KL Hessian over the gates of both kinds); how far along that order is then decided by what the
 * searched samples measure, together with what merging tokens saves for the rest of the target.
 */
export async function chooseFixedUnits(job: Job, stages: readonly StageParameters[]): Promise<FixedPlan | null> {
  const { request, context, checkpoint, data } = job;
  const kinds = (['heads', 'neurons'] as const).filter((kind) => request.units.includes(kind));
  if (kinds.length === 0) return null;
  const spec = specOf(checkpoint);
  const { columns, U, K } = await curvatureFactors(
    checkpoint,
    { dataset: data.dataset, indices: data.parts.fit },
    { kinds, seed: request.seed },
    {
      runtime: context.runtime,
      workDirectory: context.workDirectory,
      signal: context.signal,
      progress: ({ done, total, unit }) => context.progress({ stage: 'plan', done, total, unit }),
    },
  );
  const units = columns.flatMap(({ kind }) => unitsOfKind(spec, kind as 'heads' | 'neurons'));
  const family: UnitFamily = {
    name: 'units',
    curvature: { kind: 'factors', U, K },
    cost: units.map(({ cost }) => cost),
    group: units.map(({ group }) => group),
    least: [...spec.blocks.map(() => leastHeads), ...spec.blocks.map(() => leastNeurons)],
  };
  const { lossBudget, flopsSaved } = request;
  const samples = await preparePart(job, 'search');
  const prefixes = await measureOrder(job, samples, removals([family]), (steps) => removedBy(steps, units, spec));
  const rows = stages.length > 0 ? await tokenRows(job, samples, stages) : [];
  const chosen =
    lossBudget !== undefined ? withinBudget(prefixes, rows, lossBudget) : saving(prefixes, rows, flopsSaved!);
  if (!chosen) {
    if (rows.length > 0 || lossBudget !== undefined)
      return { ...nothingRemoved(spec.blocks.length), predicted: 0, measured: 0 };
    const most = Math.max(0, ...prefixes.map(({ saved }) => saved));
    throw new HeartwoodError(
      'FAILED_PRECONDITION',
      `a share of ${flopsSaved} of the FLOPs cannot be saved by ${kinds.join(' and ')} alone; the most that can is ${most.toFixed(3)}`,
    );
  }
  const { removed: gone, predicted, measured } = chosen;
  return { ...gone, predicted, measured };
}

/**
 * Measures the order of removal at growing savings, until the target is behind it: second order foretells the order well, and less and
 * less how much it costs the more is removed.
 */
async function measureOrder(
  job: Job,
  samples: PreparedSamples,
  order: Iterable<RemovalStep>,
  removed: (steps: readonly RemovalStep[]) => RemovedUnits,
): Promise<MeasuredPrefix[]> {
  const { request, context, dense } = job;
  const { lossBudget = Infinity, flopsSaved = Infinity } = request;
  const prefixes: MeasuredPrefix[] = [];
  const steps: RemovalStep[] = [];
  const network = await openGatedNetwork(job);
  const measure = async ({ predicted, saved }: RemovalStep) => {
    const units = removed(steps);
    const measured = await network.measure(samples, units);
    prefixes.push({ removed: units, predicted, saved: saved / dense, measured });
    context.progress({ stage: 'plan', done: prefixes.length, total: levels.length, unit: 'plans' });
    return measured;
  };
  try {
    for (const step of order) {
      // Thousands of steps in a row would keep the process from its signals, streams and leases.
      if (steps.length % stepsAtOnce === 0) await setImmediate();
      context.signal.throwIfAborted();
      steps.push(step);
      const saved = step.saved / dense;
      const target = saved >= flopsSaved;
      if (saved < (levels[prefixes.length] ?? Infinity) && !target) continue;
      if ((await measure(step)) > lossBudget || target) return prefixes;
    }
    const last = steps.at(-1);
    if (last && last.saved / dense > (prefixes.at(-1)?.saved ?? 0)) await measure(last);
    return prefixes;
  } finally {
    await network.dispose();
  }
}

/** The unit of a column: its block, its index there, its group and what it costs. */
interface Unit {
  readonly kind: 'heads' | 'neurons';
  readonly block: number;
  readonly index: number;
  readonly group: number;
  /** FLOPs of a sample with all its tokens. */
  readonly cost: number;
}

function unitsOfKind(spec: ClassifierSpec, kind: Unit['kind']): Unit[] {
  const { tokens, hidden, headWidth, blocks } = spec;
  // Head: four products of hidden × width a token, and two of width a pair. Neuron: two products of hidden a token.
  const cost = {
    heads: 8 * tokens * hidden * headWidth + tokens ** 2 * (4 * headWidth + 5),
    neurons: tokens * (4 * hidden + 8),
  }[kind];
  return blocks.flatMap((shape, block) =>
    Array.from({ length: shape[kind] }, (_, index) => ({
      kind,
      block,
      index,
      group: kind === 'heads' ? block : blocks.length + block,
      cost,
    })),
  );
}

function removedBy(steps: readonly RemovalStep[], units: readonly Unit[], spec: ClassifierSpec): RemovedUnits {
  const found = {
    heads: spec.blocks.map((): number[] => []),
    neurons: spec.blocks.map((): number[] => []),
  };
  for (const { unit } of steps) {
    const { kind, block, index } = units[unit]!;
    found[kind][block]!.push(index);
  }
  for (const list of [...found.heads, ...found.neurons]) list.sort((a, b) => a - b);
  return found;
}

async function tokenRows(
  job: Job,
  samples: PreparedSamples,
  stages: readonly StageParameters[],
): Promise<MeasuredRow[]> {
  const network = await openNetwork(job.context.runtime, job.checkpoint, new Map(), stages, job.context);
  try {
    return await measureRows(network, samples, coarse, job.dense, (done, total) =>
      job.context.progress({ stage: 'plan', done, total, unit: 'rows' }),
    );
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
  if (rows.length === 0) return prefixes.filter(({ measured }) => measured <= caution * budget).at(-1);
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
