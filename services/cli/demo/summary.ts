import type { ImageManifest } from '../../../libs/store/manifest.js';
import { flopsOf } from '../../server/inference/flops.js';
import { argmax, klDivergence, logSoftmax, mean, quantile } from '../measure/statistics.js';
import { flopsText, percent, short } from '../output.js';
import { tokensText } from '../measure/evaluate.js';
import type { Answer, TestImage } from './traffic.js';

/** One version over the streamed images. Means are per image. */
export interface VersionSummary {
  readonly version: number;
  readonly policy: string;
  readonly images: number;
  readonly accuracy: number;
  /** Mean cross-entropy with the labels. */
  readonly loss: number;
  /** Mean KL(version 1 ‖ this version) on the streamed images, which the pruner never saw. */
  readonly deltaLoss: number;
  /** What the pruner foretold, measured and bounded on its own data; null for version 1. */
  readonly certified: { readonly predicted: number; readonly measured: number; readonly bound: number } | null;
  readonly lossBudget: number | null;
  readonly flops: number;
  readonly flopsSaved: number;
  readonly tokensKept: readonly number[];
  readonly latency: { readonly p50: number; readonly p95: number };
  readonly imagesPerSecond: number;
  readonly joules: number | null;
}

/** Summarises a lane against version 1's answers to the same images. */
export function summarise(
  manifest: ImageManifest,
  answers: readonly Answer[],
  dense: readonly Answer[],
  images: readonly TestImage[],
): VersionSummary {
  const logs = answers.map(({ logits }) => logSoftmax(logits, 0, logits.length));
  const denseLogs = dense.map(({ logits }) => logSoftmax(logits, 0, logits.length));
  const labelOf = (index: number) => images[index]!.label ?? -1;
  const latencies = answers.map(({ latencyMs }) => latencyMs);
  const joules = answers.map((answer) => answer.joules).filter((each) => each !== undefined);
  const flops = mean(answers.map(({ kept }) => flopsOf(manifest, kept)));
  return {
    version: manifest.version,
    policy: manifest.method?.policy ?? 'unpruned',
    images: answers.length,
    accuracy: mean(logs.map((row, i) => (argmax(row) === labelOf(i) ? 1 : 0))),
    loss: mean(logs.map((row, i) => -(row[labelOf(i)] ?? 0))),
    deltaLoss: mean(logs.map((row, i) => klDivergence(denseLogs[i]!, row))),
    certified: manifest.deltaLoss,
    lossBudget: manifest.method?.lossBudget ?? null,
    flops,
    flopsSaved: 1 - flops / manifest.flops.dense,
    tokensKept: manifest.tokens.stages.map((_, stage) => mean(answers.map(({ kept }) => kept[stage] ?? 0))),
    latency: { p50: quantile(latencies, 0.5), p95: quantile(latencies, 0.95) },
    imagesPerSecond: 1000 / mean(latencies),
    joules: joules.length === 0 ? null : mean(joules),
  };
}

/** The one table of the demo: a row a quantity, a column a version. */
export function demoTable(
  rows: readonly VersionSummary[],
  totals: readonly number[],
): { head: string[]; rows: string[][] } {
  const line = (name: string, cell: (row: VersionSummary, at: number) => string) => [name, ...rows.map(cell)];
  return {
    head: ['', ...rows.map(({ version, policy }) => `version ${version} (${policy})`)],
    rows: [
      line('accuracy', ({ accuracy }) => percent(accuracy, 2)),
      line('mean loss (cross-entropy, nats)', ({ loss }) => short(loss)),
      line('ΔL budget (KL, nats)', ({ lossBudget }) => short(lossBudget)),
      line('ΔL predicted', ({ certified }) => short(certified?.predicted)),
      line('ΔL measured, certifying data', ({ certified }) => short(certified?.measured)),
      line('ΔL bound', ({ certified }) => short(certified?.bound)),
      line('ΔL measured, these images', ({ certified, deltaLoss }) => (certified ? short(deltaLoss) : '–')),
      line('FLOPs per image', ({ flops }) => flopsText(flops)),
      line('FLOPs saved', ({ flopsSaved, certified }) => (certified ? percent(flopsSaved) : '–')),
      line('tokens', ({ tokensKept }, at) => tokensText(totals[at]!, tokensKept)),
      line('latency p50', ({ latency }) => short(latency.p50, 'ms')),
      line('latency p95', ({ latency }) => short(latency.p95, 'ms')),
      line('images/s', ({ imagesPerSecond }) => short(imagesPerSecond)),
      line('joules per image', ({ joules }) => (joules === null ? 'no meter' : short(joules, 'J'))),
    ],
  };
}
