import { HeartwoodError } from '../../libs/errors/error.js';
import type { JobRecord } from '../../libs/store/jobs/job.js';
import { type Manifest, stagesOf } from '../../libs/store/manifest.js';
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
    tables: [lossTable(manifest, lossBudget), costTable(manifest), accuracyTable(manifest)].filter(
      (table) => table !== undefined,
    ),
  };
}

function lossTable({ deltaLoss }: Manifest, budget: number | undefined): Table | undefined {
  if (!deltaLoss) return undefined;
  const { predicted, measured, bound, confidence, samples } = deltaLoss;
  return table(
    'Loss, nats per sample',
    ['budget', 'predicted', 'measured', `bound (${percent(confidence)})`, 'samples'],
    [[budget === undefined ? 'none' : nats(budget), nats(predicted), nats(measured), nats(bound), String(samples)]],
  );
}

function costTable(manifest: Manifest): Table {
  const { flops } = manifest;
  return table(
    'FLOPs per sample',
    ['dense', 'pruned, mean', 'saved', 'merging stages'],
    [
      [
        flops.dense.toExponential(3),
        flops.mean.toExponential(3),
        percent(1 - flops.mean / flops.dense),
        String(stagesOf(manifest).length),
      ],
    ],
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
