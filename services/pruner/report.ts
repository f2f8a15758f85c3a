import { HeartwoodError } from '../../libs/errors/error.js';
import type { JobRecord } from '../../libs/store/jobs/job.js';
import { type Manifest, stagesOf, TEXT_GENERATION } from '../../libs/store/manifest.js';
import type { Report, Table } from '../../proto/gen/heartwood/pruning/v1/pruning.js';
import { toWireJob } from './job-messages.js';
import type { JobRequest } from './prune-request.js';
import type { JobOutcome } from './prune-work.js';

/** What came out of a job. @throws HeartwoodError FAILED_PRECONDITION unless it has succeeded */
export function reportOf(job: JobRecord): Report {
  if (job.state !== 'succeeded') {
    const why = job.error ? `: ${job.error.message}` : '';
    throw new HeartwoodError('FAILED_PRECONDITION', `job ${job.id}: has no report, it is ${job.state}${why}`);
  }
  const { manifest } = job.result as JobOutcome;
  const { lossBudget } = job.request as JobRequest;
  const { dense, mean } = manifest.flops;
  return {
    job: toWireJob(job),
    planJson: JSON.stringify(manifest.plan),
    manifestJson: JSON.stringify(manifest),
    deltaLoss: manifest.deltaLoss ?? undefined,
    flops: { dense, mean, saved: 1 - mean / dense },
    accuracy: manifest.accuracy ?? undefined,
    lossBudget,
    tables: [lossTable(manifest, lossBudget), costTable(manifest), accuracyTable(manifest), textTable(manifest)].filter(
      (table) => table !== undefined,
    ),
  };
}

function lossTable(manifest: Manifest, budget: number | undefined): Table | undefined {
  const { deltaLoss } = manifest;
  if (!deltaLoss) return undefined;
  const { predicted, measured, bound, confidence, samples, documents } = deltaLoss;
  const counted = documents === undefined ? [] : [['documents', String(documents)]];
  const cells = [
    ['budget', budget === undefined ? 'none' : nats(budget)],
    ['predicted', nats(predicted)],
    ['measured', nats(measured)],
    [`bound (${percent(confidence)})`, nats(bound)],
    [isText(manifest) ? 'tokens' : 'samples', String(samples)],
    ...counted,
  ];
  return rowTable(`Loss, nats per ${predictionOf(manifest)}`, cells);
}

function costTable(manifest: Manifest): Table {
  const { flops } = manifest;
  const stages = isText(manifest) ? 'prompt stages' : 'merging stages';
  return rowTable(`FLOPs per ${predictionOf(manifest)}`, [
    ['dense', flops.dense.toExponential(3)],
    ['pruned, mean', flops.mean.toExponential(3)],
    ['saved', percent(1 - flops.mean / flops.dense)],
    [stages, String(stagesOf(manifest).length)],
  ]);
}

/** What a language model's version says beside: its size, and how well it foretells. */
function textTable(manifest: Manifest): Table | undefined {
  if (manifest.task !== TEXT_GENERATION) return undefined;
  const { perplexity, text } = manifest;
  const { parameters, bytesPerToken, bits } = text;
  return rowTable('Language model', [
    ...(perplexity ? [['perplexity', `${perplexity.dense.toPrecision(4)} → ${perplexity.pruned.toPrecision(4)}`]] : []),
    ...(parameters ? [['parameters in blocks', `${parameters.denseBlocks} → ${parameters.blocks}`]] : []),
    ...(bytesPerToken === undefined ? [] : [['bytes a token reads', String(bytesPerToken)]]),
    ['bits of a weight', (bits ?? 32).toFixed(2)],
  ]);
}

function isText(manifest: Manifest): boolean {
  return manifest.task === TEXT_GENERATION;
}

function predictionOf(manifest: Manifest): string {
  return isText(manifest) ? 'token' : 'sample';
}

/** A table of one row, by columns and cells. */
function rowTable(title: string, cells: readonly (readonly string[])[]): Table {
  return table(
    title,
    cells.map(([name]) => name!),
    [cells.map(([, cell]) => cell!)],
  );
}

function accuracyTable({ accuracy }: Manifest): Table | undefined {
  return accuracy
    ? table('Accuracy', ['dense', 'pruned'], [[percent(accuracy.dense), percent(accuracy.pruned)]])
    : undefined;
}

function table(title: string, columns: string[], rows: string[][]): Table {
  return { title, columns, rows: rows.map((cells) => ({ cells })) };
}

function nats(value: number): string {
  return value.toPrecision(3);
}

function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}
