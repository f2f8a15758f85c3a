import { cpus } from 'node:os';
import { join, resolve } from 'node:path';
import { openDataset } from '../../../libs/data/open.js';
import { permutation, randomFor } from '../../../libs/data/random.js';
import { openEnergyMeter } from '../../../libs/energy/meter.js';
import { invalid } from '../../../libs/errors/error.js';
import { openRepository, type Repository } from '../../../libs/store/repository.js';
import { type ImageManifest, imageManifest } from '../../../libs/store/manifest.js';
import type { InferenceClient } from '../../server/client.js';
import type { Context } from '../context.js';
import { writeWhole } from '../output.js';
import { createProgress, type Progress } from '../progress.js';
import type { CurvePoint, HeadSensitivity, ReportImage } from '../report/data.js';
import { renderReport } from '../report/report.js';
import { withServedPair } from './pair.js';
import { demoTable, summarise, type VersionSummary } from './summary.js';
import { streamTraffic, type TestImage } from './traffic.js';

export interface DemoOptions {
  /** A checkpoint folder. */
  readonly model: string;
  /** Calibration data for the pruner, and test images of the same: `demo:digits` has a split for each. */
  readonly data: string;
  readonly testData: string;
  readonly lossBudget: number;
  readonly units: readonly string[];
  readonly images: number;
  readonly seed: number;
  /** Gets the repository, the pruner's folder and report.html. */
  readonly output: string;
}

export interface DemoResult {
  readonly versions: readonly VersionSummary[];
  readonly table: ReturnType<typeof demoTable>;
  readonly curve: readonly CurvePoint[];
  readonly heads: HeadSensitivity | null;
  readonly manifest: ImageManifest;
  readonly seconds: number;
  readonly report: string;
}

/** What the report shows beyond the traffic; from the libraries, in this process. */
export interface Insight {
  readonly images: readonly ReportImage[];
  readonly heads: HeadSensitivity | undefined;
}
export type Look = (
  repository: Repository,
  manifest: ImageManifest,
  images: readonly TestImage[],
  options: DemoOptions,
  signal: AbortSignal,
) => Promise<Insight>;

const name = 'demo';
const warmup = 5;

/**
 * The main job on real input, end to end: a pruner and a server as processes of their own, a job over gRPC, the new version taken up
 * by the server itself, test images streamed through both versions in turn, and a report.
 */
export async function runDemo(options: DemoOptions, look: Look, context: Context): Promise<DemoResult> {
  const started = performance.now();
  const output = resolve(options.output);
  const progress = createProgress(context);
  const pair = { ...options, name, output };
  try {
    return await withServedPair(pair, progress, context.signal, async ({ client, models, version }) => {
      const measured = await measure(client, models, version, options, look, progress, context.signal);
      const report = join(output, 'report.html');
      const seconds = (performance.now() - started) / 1000;
      const facts = factsOf(measured.manifest, options, seconds);
      await writeWhole(report, renderReport({ ...measured.report, facts }));
      return { ...measured.result, manifest: measured.manifest, seconds, report };
    });
  } finally {
    progress.stop();
  }
}

async function measure(
  client: InferenceClient,
  models: string,
  version: number,
  options: DemoOptions,
  look: Look,
  progress: Progress,
  signal: AbortSignal,
) {
  const repository = await openRepository(models);
  const [dense, manifest] = await Promise.all([
    repository.readManifest(name, 1).then(imageManifest),
    repository.readManifest(name, version).then(imageManifest),
  ]);
  const images = await testImages(manifest, options);
  const meter = await openEnergyMeter();
  const report = progress.report.bind(progress);
  const traffic = { warmup, meter, signal, progress: report };
  const lanes = await streamTraffic(client, name, [{ version: 1 }, { version }], images, traffic).finally(() =>
    meter?.close(),
  );
  const versions = [dense, manifest].map((each, lane) => summarise(each, lanes[lane]!, lanes[0]!, images));
  const table = demoTable(versions, [dense.tokens.total, manifest.tokens.total]);
  const curve = await sweep(client, manifest, versions[0]!, images, { ...traffic, warmup: 0, meter: undefined });
  progress.stop();
  const { images: shown, heads } = await look(repository, manifest, images, options, signal);
  const patches = manifest.tokens.total - manifest.tokens.special;
  const columns = Math.round(Math.sqrt((patches * manifest.input.width) / manifest.input.height));
  return {
    manifest,
    result: { versions, table, curve, heads: heads ?? null },
    report: {
      title: 'Heartwood: what pruning by curvature did',
      summary:
        `${options.model} under a loss budget of ${options.lossBudget} nats, ${images.length} test images of ` +
        `${options.testData} streamed through both versions in turn.`,
      table,
      images: shown,
      grid: { rows: patches / columns, columns, special: manifest.tokens.special },
      stages: manifest.tokens.stages,
      heads,
      curve,
    },
  };
}

/** Test images as files, drawn by seed. */
async function testImages(manifest: ImageManifest, options: DemoOptions): Promise<TestImage[]> {
  const dataset = await openDataset(options.testData, manifest.preprocessing, { classes: manifest.labels });
  const order = permutation(dataset.size, randomFor(options.seed)).slice(0, options.images);
  const images: TestImage[] = [];
  for (const index of order) {
    const [encoded, sample] = [await dataset.image(index), await dataset.read(index)];
    if (encoded === undefined)
      throw invalid(`${options.testData}: tensors, expected images, which are what is streamed`);
    images.push({ encoded, label: sample.label });
  }
  return images;
}

/** The same served version at budgets around its default, by the requests' own parameter. */
async function sweep(
  client: InferenceClient,
  manifest: ImageManifest,
  dense: VersionSummary,
  images: readonly TestImage[],
  traffic: Parameters<typeof streamTraffic>[4],
): Promise<CurvePoint[]> {
  const point = { name: 'unpruned', budget: null, flops: dense.flops, accuracy: dense.accuracy };
  if (manifest.budget === null) return [point];
  const { default: usual, ceiling } = manifest.budget;
  const budgets = [...new Set([0, usual / 4, usual / 2, usual, usual * 2, usual * 4, ceiling])].filter(
    (budget) => budget <= ceiling,
  );
  const lanes = budgets.map((budget) => ({ version: manifest.version, budget }));
  const answers = await streamTraffic(client, name, lanes, images, traffic);
  return [
    point,
    ...budgets.map((budget, lane): CurvePoint => {
      const { flops, accuracy } = summarise(manifest, answers[lane]!, answers[0]!, images);
      return { name: String(Number(budget.toPrecision(2))), budget, flops, accuracy };
    }),
  ];
}

function factsOf(manifest: ImageManifest, options: DemoOptions, seconds: number): [string, string][] {
  const { method, deltaLoss } = manifest;
  return [
    ['policy', method?.policy ?? 'unpruned'],
    ['units', method?.units.join(', ') ?? ''],
    ['calibration data', `${options.data}, digest ${manifest.dataDigest ?? 'none'}`],
    ['certified', deltaLoss ? `${deltaLoss.samples} samples, confidence ${deltaLoss.confidence}` : 'no'],
    ['checkpoint digest', manifest.checkpointDigest],
    ['seed', String(options.seed)],
    ['machine', `${cpus().length} cores, ${cpus()[0]?.model.trim() ?? 'unknown'}`],
    ['whole demo', `${seconds.toFixed(0)} s`],
  ];
}
