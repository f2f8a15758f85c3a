import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command, Option } from 'commander';
import { ESTIMATORS, type EstimatorKind } from '../../../libs/curvature/estimators.js';
import { LOSSES, type Loss } from '../../../libs/curvature/losses.js';
import { scoreCheckpoint } from '../../../libs/curvature/score.js';
import type { Scores, UnitScores } from '../../../libs/curvature/scores.js';
import { openDataset } from '../../../libs/data/open.js';
import { permutation, randomFor } from '../../../libs/data/random.js';
import { invalid } from '../../../libs/errors/error.js';
import { checkFinite, openCheckpoint } from '../../../libs/models/checkpoint.js';
import { GATE_KINDS, type GateKind } from '../../../libs/models/gates.js';
import { createRuntime } from '../../../libs/runtime/runtime.js';
import { dataHelp, examples, integer, jsonOption, wordsOf } from '../arguments.js';
import type { Context } from '../context.js';
import { checkWritable, emit, short, textTable, writeWhole } from '../output.js';
import { createProgress } from '../progress.js';

interface Options {
  readonly model: string;
  readonly data: string;
  readonly split?: 'train' | 'validation' | 'test';
  readonly units: GateKind[];
  readonly loss: Loss;
  readonly estimator?: EstimatorKind;
  readonly probes?: number;
  readonly seed: number;
  readonly samples: number;
  readonly batch?: number;
  readonly interactions?: boolean;
  readonly out: string;
  readonly json?: string;
}

const usualSamples = 256;

export function scoreCommand(context: Context): Command {
  const command = new Command('score')
    .description('what removing each head, token or neuron of a checkpoint would cost, to second order')
    .requiredOption('--model <folder>', 'a Hugging Face checkpoint (config.json, model.safetensors)')
    .requiredOption('--data <data>', dataHelp)
    .addOption(new Option('--split <part>', 'of data that has parts').choices(['train', 'validation', 'test']))
    .requiredOption('--units <list>', `of ${GATE_KINDS.join(',')}`, wordsOf(GATE_KINDS))
    .addOption(new Option('--loss <loss>', 'against the unpruned answers, or the labels').choices(LOSSES).default('kl'))
    .addOption(new Option('--estimator <name>', 'default: the best measured for each unit').choices(ESTIMATORS))
    .option('--probes <n>', 'random directions a sample (exact takes what it needs)', integer({ min: 2, max: 65536 }))
    .option('--seed <n>', 'of the samples drawn and of the directions', integer(), 0)
    .option('--samples <n>', 'at most so many, drawn by seed', integer({ min: 1 }), usualSamples)
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
  );
}

async function run(options: Options, context: Context): Promise<void> {
  await checkWritable(options.out);
  const checkpoint = await openCheckpoint(options.model);
  await checkFinite(checkpoint);
  const dataset = await openDataset(options.data, checkpoint.preprocessing, {
    ...(checkpoint.labels.length > 0 ? { classes: checkpoint.labels } : {}),
    ...(options.split ? { split: options.split } : {}),
  });
  if (dataset.size === 0) throw invalid(`${options.data}: no samples, expected at least one`);
  const indices = [...permutation(dataset.size, randomFor(options.seed)).slice(0, options.samples)];
  const { units, loss, estimator, probes, seed, batch, interactions = false } = options;
  const workDirectory = await mkdtemp(join(tmpdir(), 'heartwood-score-'));
  const runtime = createRuntime({ workers: 1 });
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
  const where = `${scores.samples} samples of ${dataset.name}, ${loss}, in ${seconds.toFixed(1)} s: ${options.out}`;
  const { model, data, samples, checkpointDigest, dataDigest } = scores;
  const json = { model, checkpointDigest, data, dataDigest, loss, samples, seconds, out: options.out, units: rows };
  await emit(
    context,
    `${table}\nnats per sample; error: the mean standard error of ½h, over probes\n${where}`,
    json,
    options.json,
  );
}

/** ½h of the gates of a kind, in nats per sample: what removing one costs, the gradient aside. */
function summary(unit: string, scores: UnitScores, { samples, estimator }: Scores) {
  // Shared gates were summed over the samples.
  const scale = 0.5 / (scores.shape.length === 2 ? samples : 1);
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
