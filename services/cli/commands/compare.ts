import { Command, Option } from 'commander';
import { openEnergyMeter } from '../../../libs/energy/meter.js';
import { invalid } from '../../../libs/errors/error.js';
import { TEXT_GENERATION } from '../../../libs/store/manifest.js';
import { openRepository } from '../../../libs/store/repository.js';
import { connectInference, type InferenceClient } from '../../server/client.js';
import { checkComparison, compareLanes } from '../../server/comparison/comparison.js';
import type { ComparisonMeter, ComparisonSettings } from '../../server/comparison/lane.js';
import type { ComparisonResult } from '../../server/comparison/result.js';
import { promptsOf, textLaneOf } from '../../server/serving/compare-texts.js';
import { examples, integer, jsonOption, number } from '../arguments.js';
import type { Context } from '../context.js';
import { laneOf, openRemoteData, sourceOf } from '../measure/compare.js';
import { openTextSamples, remoteTexts } from '../measure/compare-texts.js';
import { withLocalText } from '../measure/local-text.js';
import { comparisonNotes, comparisonTable } from '../measure/comparison-table.js';
import { withVersions, type MeasureOptions } from '../measure/session.js';
import { checkWritable, emit, textTable, writeWhole } from '../output.js';
import { createProgress, type Progress } from '../progress.js';
import { renderComparison } from '../report/comparison-report.js';
import { shapeOf, type TextShape } from '../report/text-shape.js';
import { secretsOf } from '../transport-options.js';
import { withDataOptions } from './evaluate.js';

interface Options extends Omit<MeasureOptions, 'repository'>, ComparisonSettings {
  readonly repository?: string;
  readonly server?: string;
  readonly tlsCa?: string;
  readonly json?: string;
  readonly report?: string;
  readonly maxTokens: number;
  readonly promptTokens: number;
}

/** What was compared on what. */
interface Compared {
  readonly result: ComparisonResult;
  readonly data: { readonly name: string; readonly digest: string };
  /** Of the versions of a language model, where their manifests are at hand. */
  readonly shapes?: readonly TextShape[];
}

export function compareCommand(context: Context): Command {
  const base = new Command('compare')
    .description('latency, throughput, energy, FLOPs and answers of versions on the same inputs, interleaved')
    .option('--repository <folder>', 'the model repository, to run its versions in this process; or')
    .addOption(
      new Option('--server <host:port>', 'a running server, to have it run them as it serves them').conflicts(
        'repository',
      ),
    )
    .requiredOption('--name <model>', 'the model in it');
  const command = withDataOptions(base)
    .option('--batch <n>', 'samples of a request', integer({ min: 1, max: 1024 }), 1)
    .option('--concurrency <n>', 'requests under way at a time', integer({ min: 1, max: 1024 }), 1)
    .option('--max-tokens <n>', 'of a language model: tokens generated for each prompt', integer({ min: 1 }), 64)
    .option('--prompt-tokens <n>', 'of a language model: tokens of each prompt', integer({ min: 1 }), 64)
    .option('--warmup <n>', 'requests to each version that are not counted', integer(), 3)
    .option('--confidence <share>', 'of the intervals', number({ min: 0.5, max: 1, inclusive: false }), 0.95)
    .option(
      '--tls-ca <file>',
      'with --server: the authorities of its certificate, PEM (https://host:port: the usual ones)',
    )
    .addOption(jsonOption())
    .option('--report <file>', 'write the comparison with its charts as one HTML file')
    .action((options: Options) => run(options, context));
  return examples(
    command,
    'compare --repository models --name digits --versions 1,2 --data demo:digits --samples 200',
    'compare --repository models --name vit --versions 1,2 --data photos/ --batch 8 --concurrency 4 --report report.html',
    'compare --server 127.0.0.1:8001 --name vit --data photos/ --concurrency 4 --json -',
    'compare --repository models --name pythia --data articles.txt --max-tokens 128 --concurrency 4',
  );
}

async function run(options: Options, context: Context): Promise<void> {
  const { report, json } = options;
  // Before the work, not after it.
  if (report !== undefined) await checkWritable(report);
  if (json !== undefined && json !== '-') await checkWritable(json);
  const progress = createProgress(context);
  try {
    const { result, data, shapes = [] } = await compared(options, progress, context);
    progress.stop();
    const table = comparisonTable(result);
    const notes = comparisonNotes(result, { data: data.name, server: options.server });
    if (report !== undefined) {
      await writeWhole(report, renderComparison({ model: options.name, result, table, notes, data, shapes }));
    }
    const document = {
      model: options.name,
      where: options.server ?? 'process',
      data: options.data,
      dataDigest: data.digest,
      ...result,
      notes,
    };
    await emit(context, [textTable(table.head, table.rows), ...notes].join('\n'), document, json);
  } finally {
    progress.stop();
  }
}

async function compared(options: Options, progress: Progress, context: Context): Promise<Compared> {
  if (options.server !== undefined) return byServer(options.server, options, progress, context.signal);
  if (options.repository !== undefined)
    return inProcess({ ...options, repository: options.repository }, progress, context);
  throw invalid('expected either --repository FOLDER or --server HOST:PORT');
}

async function inProcess(
  options: Options & { readonly repository: string },
  progress: Progress,
  context: Context,
): Promise<Compared> {
  const { signal } = context;
  const meter = await openEnergyMeter();
  try {
    if (await generatesText(options)) return await textsInProcess(options, meter, progress, signal);
    return await withVersions(options, context, async ({ versions, dataset, indices }) => {
      const hooks = { signal, meter, progress: progress.report.bind(progress) };
      const lanes = versions.map(laneOf);
      const result = await compareLanes(lanes, sourceOf(dataset, indices), settingsOf(options), hooks);
      return { result, data: dataset };
    });
  } finally {
    await meter?.close();
  }
}

async function byServer(address: string, options: Options, progress: Progress, signal: AbortSignal): Promise<Compared> {
  const { authToken } = secretsOf(process.env);
  const client = connectInference(address, {
    ...(options.tlsCa === undefined ? {} : { tlsCa: options.tlsCa }),
    ...(authToken === undefined ? {} : { authToken }),
  });
  try {
    if (await servesText(client, options)) return await textsByServer(client, options, progress, signal);
    const { dataset, size, samples } = await openRemoteData(client, options);
    const settings = settingsOf(options);
    const versions = options.versions ?? [];
    checkComparison(size, Math.max(1, versions.length), settings);
    const asked = { ...settings, model: options.name, versions, budget: options.budget };
    const hooks = remoteHooks(progress, signal);
    const result = await client.compare(asked, sending(samples(signal), size, progress), hooks);
    return { result, data: dataset };
  } finally {
    client.close();
  }
}

/** Whether the versions in a repository are of a language model. */
async function generatesText({
  repository,
  name,
  versions,
}: Options & { readonly repository: string }): Promise<boolean> {
  const { manifest } = await (await openRepository(repository)).resolve(name, versions?.[0]);
  return manifest.task === TEXT_GENERATION;
}

async function textsInProcess(
  options: Options & { readonly repository: string },
  meter: ComparisonMeter | undefined,
  progress: Progress,
  signal: AbortSignal,
): Promise<Compared> {
  const { repository, name } = options;
  const settings = textSettingsOf(options);
  const samples = await openTextSamples(options);
  const versions = options.versions ?? (await (await openRepository(repository)).listVersions(name));
  const compared = await withLocalText({ repository, name, versions, warmUp: true }, signal, async (loaded) => {
    const lanes = loaded.map(({ source, served }) => textLaneOf(source, served, options));
    const source = await promptsOf(
      samples.texts,
      loaded.map(({ served }) => served),
      options,
      signal,
    );
    const hooks = { signal, meter, progress: progress.report.bind(progress) };
    const result = await compareLanes(lanes, source, settings, hooks);
    return { result, shapes: loaded.map(({ served }) => shapeOf(served.manifest)) };
  });
  return { ...compared, data: samples };
}

async function servesText(client: InferenceClient, { name, versions = [] }: Options): Promise<boolean> {
  const known = await client.listVersions(name);
  const [first] = versions;
  const version = known.find((each) => first === undefined || Number(each.version) === first);
  return version?.facts?.task === TEXT_GENERATION;
}

async function textsByServer(
  client: InferenceClient,
  options: Options,
  progress: Progress,
  signal: AbortSignal,
): Promise<Compared> {
  const { name: model, versions = [], budget, maxTokens, promptTokens } = options;
  const settings = textSettingsOf(options);
  const samples = await openTextSamples(options);
  checkComparison(samples.texts.length, Math.max(1, versions.length), settings);
  const asked = { ...settings, model, versions, budget, maxTokens, promptTokens };
  const sent = sending(remoteTexts(samples, signal), samples.texts.length, progress);
  return { result: await client.compare(asked, sent, remoteHooks(progress, signal)), data: samples };
}

/** A language model batches by itself, so that a request is of one prompt. */
function textSettingsOf(options: Options): ComparisonSettings {
  if (options.batch !== 1)
    throw invalid(`--batch: ${options.batch}, expected 1 of a language model: see --concurrency`);
  return settingsOf(options);
}

function remoteHooks(progress: Progress, signal: AbortSignal): Parameters<InferenceClient['compare']>[2] {
  return {
    signal,
    progress: ({ stage, done, total, unit }) =>
      progress.report({ stage, done: Number(done), total: Number(total), unit }),
  };
}

async function* sending<T>(samples: AsyncIterable<T>, total: number, progress: Progress): AsyncGenerator<T> {
  let done = 0;
  for await (const sample of samples) {
    yield sample;
    progress.report({ stage: 'send', done: ++done, total, unit: 'samples' });
  }
}

function settingsOf({ batch, concurrency, warmup, seed, confidence }: Options): ComparisonSettings {
  return { batch, concurrency, warmup, seed, confidence };
}
