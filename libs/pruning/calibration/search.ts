import { replacedTensors } from '../artefact.js';
import type { PreparedSamples } from '../measure/prepared.js';
import type { Certificate, FixedPlan } from '../plan.js';
import type { AnyJob, Job } from '../job.js';
import type { Segment } from '../../store/segments.js';
import { HeartwoodError } from '../../errors/error.js';
import { budgetFor, interpolate, type BudgetTable } from '../stages/budget.js';
import type { StageParameters } from '../stages/parameters.js';
import { budgetTable } from '../statistics/thresholds.js';
import {
  attempt,
  certifyBudget,
  certifyFixed,
  imageMeasures,
  judge,
  rounding,
  type Attempt,
  type CertifyOptions,
} from './certify.js';
import { openNetwork, type OpenNetwork } from './network.js';
import { preparePart } from './samples.js';
import { gridOf, measureRows, type MeasuredRow } from './table.js';

/** What the searched samples say: the thresholds by budget, and what each saves. */
export interface SearchResult {
  readonly rows: readonly MeasuredRow[];
  /** Its scale is 1: nats as the searched samples measure them. Null without merging stages. */
  readonly table: BudgetTable | null;
}

/** Where no tokens are merged there is nothing to search. */
export const noTable: SearchResult = { rows: [], table: null };

/** A plan that passed. */
export interface CertifiedPlan {
  /** Heads and neurons that are gone for good; null when none were asked for. */
  readonly removed: FixedPlan | null;
  /** Its scale makes a served budget keep what was certified. Null without merging stages. */
  readonly table: BudgetTable | null;
  readonly segments: readonly Segment[];
  readonly certificate: Certificate;
}

/** Above so many FLOPs a sample the table gets half as many rows: the search is the longest stage then. */
const heavy = 5e9;

/** Measures thresholds for a grid of savings on the samples that are for searching. */
export async function searchTable(
  job: Job,
  stages: readonly StageParameters[],
  removed: FixedPlan | null,
): Promise<SearchResult> {
  if (stages.length === 0) return noTable;
  return withNetwork(job, stages, removed, 'search', async (network, samples) => {
    const grid = gridOf(job.dense > heavy ? 0.1 : 0.05);
    const progress = (done: number, total: number) =>
      job.context.progress({ stage: 'search', done, total, unit: 'rows' });
    const rows = await measureRows(network, samples, grid, job.dense, progress);
    if (rows.length === 0) throw new HeartwoodError('FAILED_PRECONDITION', 'the model has too few tokens to merge any');
    return { rows, table: budgetTable(rows) };
  });
}

/** Nominal savings at which tokens are measured, to split a target between them and the units that go for good. */
const coarse = [0.15, 0.3, 0.45, 0.6, 0.75];

/** What merging tokens costs and saves with every head and neuron in place; none without merging stages. */
export async function tokenRows(job: Job, stages: readonly StageParameters[]): Promise<readonly MeasuredRow[]> {
  if (stages.length === 0) return [];
  return withNetwork(job, stages, null, 'search', (network, samples) =>
    measureRows(network, samples, coarse, job.dense, (done, total) =>
      job.context.progress({ stage: 'plan', done, total, unit: 'rows' }),
    ),
  );
}

/**
 * Certifies the table at the budget asked for, or at the one that saves the FLOPs asked for; without a table the last of the plans for
 * units that go for good which holds.
 */
export async function certifyPlan(
  job: Job,
  stages: readonly StageParameters[],
  plans: readonly FixedPlan[],
  { rows, table }: SearchResult,
): Promise<CertifiedPlan> {
  if (!table) return certifyRemoval(job, plans);
  const removed = plans[0] ?? null;
  const { lossBudget, flopsSaved, loss, confidence, seed } = job.request;
  return withNetwork(job, stages, removed, 'certify', async (network, samples) => {
    const progress = (done: number, total: number) =>
      job.context.progress({ stage: 'certify', done, total, unit: 'budgets' });
    const { counted } = job.task;
    const options: CertifyOptions = { loss, confidence, seed, counted, signal: job.context.signal, progress };
    const { segments } = network;
    const measureAt = imageMeasures(network, samples);
    let passed: Attempt;
    let budget: number;
    if (lossBudget !== undefined) {
      passed = await certifyBudget(measureAt, table, lossBudget, options);
      budget = lossBudget;
    } else {
      const asked = budgetOfSaving(table, flopsSaved!);
      passed = await attempt(measureAt, asked, interpolate(table, asked), options);
      // What may be promised is the bound.
      budget = Math.max(passed.certificate.bound, rounding);
    }
    if (passed.certificate.flops >= job.dense) throw nothingSaved(job, passed.certificate.flops);
    const scale = budget > 0 ? passed.asked / budget : 1;
    return {
      removed,
      table: { ...table, scale },
      segments,
      certificate: { ...passed.certificate, budget, predicted: predictedAt(rows, passed.asked, loss, removed) },
    };
  });
}

/** A plan that saves nothing is no plan: its stages cost more than they save. */
function nothingSaved({ request, dense }: AnyJob, flops: number): HeartwoodError {
  const what =
    request.lossBudget === undefined
      ? `a share of ${request.flopsSaved}`
      : `a loss budget of ${request.lossBudget} nats`;
  return new HeartwoodError(
    'FAILED_PRECONDITION',
    `${what} saves nothing: the pruned model would take ${Math.round(flops)} FLOPs a sample, the unpruned one takes ${dense}; expected a greater one`,
  );
}

/**
 * What the searched samples foretell at a budget of the table, in the currency of the loss: linear between rows, the ends clamped. Below the first row
 * lies what is gone for good by itself.
 */
export function predictedAt(
  rows: readonly { readonly kl: number; readonly crossEntropyRise?: number | null }[],
  asked: number,
  loss: CertifyOptions['loss'],
  removed: FixedPlan | null,
): number {
  const sorted = [...rows].sort((a, b) => a.kl - b.kl);
  const valueOf = (row: (typeof rows)[number]) => (loss === 'kl' ? row.kl : (row.crossEntropyRise ?? 0));
  const next = sorted.findIndex(({ kl }) => kl >= asked);
  if (next < 0) return valueOf(sorted.at(-1)!);
  const least = removed?.measured ?? 0;
  const [kl, value] = next === 0 ? [least, least] : [sorted[next - 1]!.kl, valueOf(sorted[next - 1]!)];
  const above = sorted[next]!;
  const share = above.kl > kl ? Math.max(0, (asked - kl) / (above.kl - kl)) : 1;
  return value + share * (valueOf(above) - value);
}

/** The table's budget that saves a share of the FLOPs. Throws FAILED_PRECONDITION with the greatest share that can be saved. */
function budgetOfSaving(table: BudgetTable, flopsSaved: number): number {
  const most = Math.max(...table.rows.map((row) => row.flopsSaved));
  if (flopsSaved > most) {
    throw new HeartwoodError(
      'FAILED_PRECONDITION',
      `a share of ${flopsSaved} of the FLOPs cannot be saved; the most that can is ${most.toFixed(3)}`,
    );
  }
  return budgetFor(table, flopsSaved);
}

/** Heads and neurons alone: the last of the plans that holds. */
export async function certifyRemoval(job: AnyJob, plans: readonly FixedPlan[]): Promise<CertifiedPlan> {
  const { lossBudget, loss, confidence, seed } = job.request;
  const part = await job.task.prepare('certify');
  const options: CertifyOptions = {
    loss,
    confidence,
    seed,
    counted: job.task.counted,
    signal: job.context.signal,
    progress: (done, total) => job.context.progress({ stage: 'certify', done, total, unit: 'plans' }),
  };
  const { plan, attempt } =
    lossBudget === undefined
      ? { plan: plans[0]!, attempt: judge(await part.measure(plans[0]!), plans[0]!.predicted, options) }
      : await certifyFixed(part, plans, lossBudget, options);
  const { flops, bound } = attempt.certificate;
  if (flops >= job.dense && !plan.bits) throw nothingSaved(job, flops);
  const budget = lossBudget ?? Math.max(bound, 0);
  return {
    removed: plan,
    table: null,
    segments: [{ constant: flops * job.task.predictions, linear: 0, quadratic: 0, cross: 0 }],
    certificate: { ...attempt.certificate, budget, predicted: plan.measured },
  };
}

/** Opens the network and one part of the data, hands them to the work, and frees them. */
async function withNetwork<T>(
  job: Job,
  stages: readonly StageParameters[],
  removed: FixedPlan | null,
  part: 'search' | 'certify',
  work: (network: OpenNetwork, samples: PreparedSamples) => Promise<T>,
): Promise<T> {
  const { context, checkpoint } = job;
  const replaced = await replacedTensors({ removed }, checkpoint);
  const network = await openNetwork(context.runtime, checkpoint, replaced, stages, context);
  try {
    return await work(network, await preparePart(job, part));
  } finally {
    await network.dispose();
  }
}
