import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command, Option } from 'commander';
import { ESTIMATORS, type EstimatorKind } from '../../../libs/curvature/estimators.js';
import { LOSSES, type Loss } from '../../../libs/curvature/losses.js';
import { UNIT_KINDS, type UnitKind } from '../../../libs/curvature/probe-graph.js';
import { scoreCheckpoint } from '../../../libs/curvature/score.js';
import type { Scores, UnitScores } from '../../../libs/curvature/scores.js';
import type { Dataset } from '../../../libs/data/dataset.js';
import { openDataset } from '../../../libs/data/open.js';
import { permutation, randomFor } from '../../../libs/data/random.js';
import type { TextDataset } from '../../../libs/data/text/dataset.js';
import { invalid } from '../../../libs/errors/error.js';
import { taskOf } from '../../../libs/models/architectures/index.js';
import { checkFinite, openCheckpoint, type Checkpoint } from '../../../libs/models/checkpoint.js';
import { openWindows } from '../../../libs/pruning/text/data.js';
import { dataHelp, examples, integer, jsonOption, wordsOf } from '../arguments.js';
import type { Context } from '../context.js';
import { checkWritable, emit, short, textTable, writeWhole } from '../output.js';
import { createProgress } from '../progress.js';
import { openRuntime, withProviderOptions } from '../provider-options.js';
import type { ProviderOptions } from '../../settings/provider.js';

interface Options extends ProviderOptions {
  readonly model: string;
  readonly data: string;
  readonly split?: 'train' | 'validation' | 'test';
  readonly units: UnitKind[];
  readonly loss: Loss;
  readonly estimator?: EstimatorKind;
  readonly probes?: number;
  readonly seed: number;
  readonly samples?: number;
  readonly batch?: number;
  readonly window?: number;
  readonly interactions?: boolean;
  readonly out: string;
  readonly json?: string;
}

/** A window of text is as much work as several images. */
const usualSamples = { 'image-classification': 256, 'text-generation': 64 } as const;

export function scoreCommand(context: Context): Command {
  const command = withProviderOptions(new Command('score'))
    .description('what removing each head, token or neuron of a checkpoint would cost, to second order')
    .requiredOption('--model <folder>', 'a Hugging Face checkpoint (config.json, model.safetensors)')
    .requiredOption('--data <data>', dataHelp)
    .addOption(new Option('--split <part>', 'of data that has parts').choices(['train', 'validation', 'test']))
    .requiredOption('--units <list>', `of ${UNIT_KINDS.join(',')} (bits: quantising a matrix)`, wordsOf(UNIT_KINDS))
    .addOption(new Option('--loss <loss>', 'against the unpruned answers, or the labels').choices(LOSSES).default('kl'))
    .addOption(new Option('--estimator <name>', 'default: the best measured for each unit').choices(ESTIMATORS))
    .option('--probes <n>', 'random directions a sample (exact takes what it needs)', integer({ min: 2, max: 65536 }))
    .option('--seed <n>', 'of the samples drawn and of the directions', integer(), 0)
    .option(
      '--samples <n>',
      `at most so many, drawn by seed (default: ${usualSamples['image-classification']} images, ${usualSamples['text-generation']} windows of text)`,
      integer({ min: 1 }),
    )
    .option(
      '--window <tokens>',
      "of a window of text (default: 256, or the model's context where that is less)",
      integer({ min: 2 }),
    )
    .option('--batch <n>', 'samples a run (default: by the number of tokens)', integer({ min: 1, max: 1024 }))
    .option('--interactions', 'also the full Hessian of heads and of neurons')
    .requiredOption('--out <file>', 'where the scores go (JSON)')
    .addOption(jsonOption())
    .action((options: Options) => run(options, context));
  return examples(
    command,
    'score --model models/demo-digits --data demo:digits --units heads,masks --out scores.json',
    'score --model my-vit --data photos/train --units heads --loss cross-entropy --interactions --out heads.json',
    'score --model my-vit --data photos/train --units neurons --estimator output-sketch --probes 64 --out neurons.json',
    'score --model pythia-160m --data book.txt --units heads,neurons --window 512 --out scores.json',
  );
}

async function run(options: Options, context: Context): Promise<void> {
  await checkWritable(options.out);
  const checkpoint = await openCheckpoint(options.model);
  await checkFinite(checkpoint);
  const dataset = await openData(checkpoint, options);
  if (dataset.size === 0) throw invalid(`${options.data}: no samples, expected at least one`);
  const most = options.samples ?? usualSamples[taskOf(checkpoint)];
  const indices = [...permutation(dataset.size, randomFor(options.seed)).slice(0, most)];
  const { units, loss, estimator, probes, seed, batch, interactions = false } = options;
  const runtime = await openRuntime(options, context, { workers: 1 });
  const workDirectory = await mkdtemp(join(tmpdir(), 'heartwood-score-'));
  const progress = createProgress(context);
  const started = performance.now();
  let scores: Scores;
  try {
    scores = await scoreCheckpoint(
      {
        checkpoint,
        dataset,
        indices,
        units,
        loss,
        seed,
        interactions,
        ...(estimator ? { estimator } : {}),
        ...(probes === undefined ? {} : { probes }),
        ...(batch === undefined ? {} : { batch }),
      },
      { runtime, workDirectory, progress: progress.report.bind(progress), signal: context.signal },
    );
  } finally {
    progress.stop();
    await runtime.close();
    await rm(workDirectory, { recursive: true, force: true });
  }
  const seconds = (performance.now() - started) / 1000;
  await writeWhole(options.out, `${JSON.stringify(scores)}\n`);
  const rows = Object.entries(scores.units).map(([kind, unit]) => summary(kind, unit, scores));
  const table = textTable(
    ['unit', 'shape', 'estimator', 'mean ½h', 'least', 'greatest', 'error'],
    rows.map((row) => [
      row.unit,
      row.shape.join(' × '),
      `${row.estimator.kind}, ${row.estimator.probes}`,
      short(row.mean),
      short(row.least),
      short(row.greatest),
      short(row.standardError),
    ]),
  );
  const { model, data, samples, positions, checkpointDigest, dataDigest } = scores;
  const counted = positions === undefined ? `${samples} samples` : `${positions} positions of ${samples} windows`;
  const where = `${counted} of ${dataset.name}, ${loss}, in ${seconds.toFixed(1)} s: ${options.out}`;
  const size = { samples, ...(positions === undefined ? {} : { positions }) };
  const json = { model, checkpointDigest, data, dataDigest, loss, ...size, seconds, out: options.out, units: rows };
  await emit(
    context,
    `${table}\nnats per ${positions === undefined ? 'sample' : 'position'}; error: the mean standard error of ½h, over probes\n${where}`,
    json,
    options.json,
  );
}

/** Opens images, or text cut into windows: whatever the model takes. */
function openData(checkpoint: Checkpoint, { data, split, window }: Options): Promise<Dataset | TextDataset> {
  if (taskOf(checkpoint) === 'text-generation') {
    if (split && !data.startsWith('demo:')) throw invalid(`--split: ${data} has no parts, expected bundled text`);
    return openWindows(checkpoint, split ? `${data}/${split}` : data, window);
  }
  if (window !== undefined) throw invalid('--window is for text, expected a language model');
  return openDataset(data, checkpoint.preprocessing, {
    ...(checkpoint.labels.length > 0 ? { classes: checkpoint.labels } : {}),
    ...(split ? { split } : {}),
  });
}

/** ½h of the gates of a kind, in nats per sample (of text: per position): what removing one costs, the gradient aside. */
function summary(unit: string, scores: UnitScores, { samples, positions = samples, estimator }: Scores) {
  // Shared gates were summed over the samples, each of which is summed over its positions.
  const scale = 0.5 / (scores.shape.length === 2 ? positions : positions / samples);
  const { curvature, standardError } = scores;
  let [total, least, greatest] = [0, Infinity, -Infinity];
  for (const h of curvature) {
    total += h;
    least = Math.min(least, h);
    greatest = Math.max(greatest, h);
  }
  return {
    unit,
    shape: scores.shape,
    estimator: scores.estimator ?? estimator,
    mean: (total / curvature.length) * scale,
    least: least * scale,
    greatest: greatest * scale,
    standardError: standardError ? (standardError.reduce((sum, e) => sum + e, 0) / standardError.length) * scale : null,
  };
}
