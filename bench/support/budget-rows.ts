/** The rows of bench:budget for one model. */
import { HeartwoodError } from '../../libs/errors/error.js';
import { certifyPlan, searchTable } from '../../libs/pruning/calibration/search.js';
import { openNetwork } from '../../libs/pruning/calibration/network.js';
import { measureRow } from '../../libs/pruning/calibration/table.js';
import type { Job } from '../../libs/pruning/job.js';
import { policies } from '../../libs/pruning/policies/index.js';
import type { PruneRequest } from '../../libs/pruning/request.js';
import { interpolate } from '../../libs/pruning/stages/budget.js';
import type { StageParameters } from '../../libs/pruning/stages/parameters.js';
import { imageTask } from '../../libs/pruning/tasks/images.js';
import { stageBlocks } from '../../libs/pruning/statistics/schedule.js';
import type { BenchContext, OpenSubject } from './pruning-bench.js';

/** Nats per sample. */
export const budgets = [0.01, 0.05, 0.2];

export interface BudgetRow {
  readonly model: string;
  readonly budget: number;
  readonly seed: number;
  /** Whether the mean loss on the test samples is within the budget; a budget that cannot be certified is refused. */
  readonly outcome: 'held' | 'exceeded' | 'refused';
  /** Nats, on the certifying samples; null when refused, as all below. */
  readonly certified: number | null;
  readonly bound: number | null;
  /** Nats, on the test samples. */
  readonly measured: number | null;
  readonly flopsSaved: number | null;
  readonly accuracy: number | null;
  readonly tests: number;
}

/** Every budget under every seed that the subject has calibration data for. */
export async function budgetRows(subject: OpenSubject, context: BenchContext): Promise<BudgetRow[]> {
  const rows: BudgetRow[] = [];
  const began = Date.now();
  for (const seed of subject.calibrations.keys()) {
    rows.push(...(await rowsOfSeed(subject, seed, context)));
    console.error(`${subject.name}: seed ${seed}, ${Math.round((Date.now() - began) / 1000)} s`);
  }
  return rows;
}

async function rowsOfSeed(subject: OpenSubject, seed: number, context: BenchContext): Promise<BudgetRow[]> {
  const { checkpoint, dense, test } = subject;
  const { curvature } = policies;
  const blocks = stageBlocks(subject.blocks);
  const data = subject.calibrations.get(seed)!;
  const inputs = { checkpoint, samples: { dataset: data.dataset, indices: data.parts.fit }, blocks, seed };
  const quiet = { ...context, progress: () => undefined };
  const { scores } = await curvature.fit(await curvature.score(inputs, quiet), inputs, quiet);
  const stages = scores.map((score, at): StageParameters => {
    const { rule, selection, matchings } = curvature;
    return { block: blocks[at]!, rule, selection, matchings, score };
  });
  const jobOf = (lossBudget: number): Job => {
    const job = {
      request: requestOf(subject, seed, lossBudget),
      context: { ...quiet, checkpoint: <T>(_: string, compute: () => Promise<T>) => compute() },
      checkpoint,
      data,
      dense,
    };
    return { ...job, task: imageTask(job) };
  };
  const found = await searchTable(jobOf(budgets[0]!), stages, null);
  const network = await openNetwork(context.runtime, checkpoint, new Map(), stages, context);
  try {
    const rows: BudgetRow[] = [];
    for (const budget of budgets) {
      const common = { model: subject.name, budget, seed, tests: test.size };
      const plan = await certified(() => certifyPlan(jobOf(budget), stages, [], found));
      if (!plan?.table) {
        const nothing = { certified: null, bound: null, measured: null, flopsSaved: null, accuracy: null };
        rows.push({ ...common, outcome: 'refused', ...nothing });
        continue;
      }
      // What the served model does with this budget.
      const row = await measureRow(network, test, interpolate(plan.table, budget), dense);
      rows.push({
        ...common,
        outcome: row.kl <= budget ? 'held' : 'exceeded',
        certified: plan.certificate.measured,
        bound: plan.certificate.bound,
        measured: row.kl,
        flopsSaved: row.flopsSaved,
        accuracy: row.accuracy,
      });
    }
    return rows;
  } finally {
    await network.dispose();
  }
}

/** Undefined when the budget is refused. */
async function certified<T>(work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof HeartwoodError && error.code === 'FAILED_PRECONDITION') return undefined;
    throw error;
  }
}

/** Only what search and certification read matters; nothing is published. */
function requestOf({ name, checkpoint }: OpenSubject, seed: number, lossBudget: number): PruneRequest {
  return {
    modelDirectory: checkpoint.directory,
    data: name,
    name,
    repository: '',
    lossBudget,
    units: ['tokens'],
    policy: 'curvature',
    loss: 'kl',
    seed,
    confidence: 0.95,
  };
}
