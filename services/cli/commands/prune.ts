import { createHash } from 'node:crypto';
import { resolve } from 'node:path';
import { Command, Option } from 'commander';
import { invalid } from '../../../libs/errors/error.js';
import { openCheckpoint } from '../../../libs/models/checkpoint.js';
import { openSplitData } from '../../../libs/pruning/data.js';
import { prune } from '../../../libs/pruning/prune.js';
import type { Manifest } from '../../../libs/store/manifest.js';
import { openRepository } from '../../../libs/store/repository.js';
import { checkRequest, LOSSES, POLICIES, UNITS } from '../../pruner/prune-request.js';
import { dataHelp, examples, integer, jsonOption, ladderOption, number, wordsOf } from '../arguments.js';
import type { Context } from '../context.js';
import { withLocalJob } from '../local-job.js';
import { emit, flopsText, percent, short, textTable } from '../output.js';
import { createProgress } from '../progress.js';
import { openRuntime, withProviderOptions } from '../provider-options.js';
import type { ProviderOptions } from '../../settings/provider.js';

interface Options extends ProviderOptions {
  model: string;
  data: string;
  repository: string;
  name?: string;
  lossBudget?: number;
  flopsSaved?: number;
  units?: (typeof UNITS)[number][];
  policy: string;
  loss: string;
  samples?: number;
  window?: number;
  bits?: number;
  shardSamples?: number;
  ladder?: string;
  seed: number;
  confidence: number;
  json?: string;
}

export function pruneCommand(context: Context): Command {
  const command = withProviderOptions(new Command('prune'))
    .description('prune a checkpoint under a loss budget, and publish what was measured to keep it')
    .requiredOption('--model <folder>', 'a Hugging Face checkpoint')
    .requiredOption('--data <data>', `calibration data: ${dataHelp}`)
    .requiredOption('--repository <folder>', 'the model repository; made if it is missing')
    .option('--name <model>', "the model's name in it (default: the checkpoint folder's)")
    .addOption(
      new Option('--loss-budget <nats>', 'mean loss that may be added, per sample (of text: per token)')
        .argParser(number({ min: 0 }))
        .conflicts('flopsSaved'),
    )
    .option(
      '--flops-saved <share>',
      'in place of a budget: the share of FLOPs to save',
      number({ min: 0, max: 1, inclusive: false }),
    )
    .option(
      '--units <list>',
      `what may go: ${UNITS.join(', ')} (default: tokens of images, heads and neurons of a language model)`,
      wordsOf(UNITS),
    )
    .addOption(new Option('--policy <name>', 'how it is chosen').choices([...POLICIES]).default('curvature'))
    .addOption(new Option('--loss <name>', 'the currency of the budget').choices([...LOSSES]).default('kl'))
    .option(
      '--samples <n>',
      'calibration samples at most (default: 2000 images, 400 windows of text)',
      integer({ min: 1 }),
    )
    .option(
      '--window <tokens>',
      "of a window of text (default: 256, or the model's context where that is less)",
      integer({ min: 2 }),
    )
    .option(
      '--bits <n>',
      "4 or 8, of every weight matrix of a language model (default: 32, or the plan's choice with --units bits)",
      integer({ min: 4, max: 8 }),
    )
    .option(
      '--shard-samples <n>',
      'samples that are summed up at once, as a job of a pruner divides them among workers (default: some runs)',
      integer({ min: 1 }),
    )
    .addOption(ladderOption())
    .option('--seed <n>', 'of the split of the data and of all draws', integer(), 0)
    .option('--confidence <p>', 'of the certified bound', number({ min: 0.5, max: 1, inclusive: false }), 0.95)
    .addOption(jsonOption())
    .action((options: Options) => run(options, context));
  return examples(
    command,
    'prune --model my-vit --data photos/train --loss-budget 0.05 --repository models',
    'prune --model my-vit --data photos/train --flops-saved 0.5 --repository models --policy tome',
    'prune --model pythia-160m --data articles.txt --loss-budget 0.05 --repository models',
  );
}

async function run(options: Options, context: Context): Promise<void> {
  if (options.lossBudget === undefined && options.flopsSaved === undefined) {
    throw invalid('--loss-budget or --flops-saved: expected one of the two, got neither');
  }
  const wish = await checkRequest({
    modelDirectory: resolve(options.model),
    data: options.data.startsWith('demo:') ? options.data : resolve(options.data),
    name: options.name ?? '',
    lossBudget: options.lossBudget,
    flopsSaved: options.flopsSaved,
    units: [...(options.units ?? [])],
    policy: options.policy,
    loss: options.loss,
    samples: options.samples,
    window: options.window,
    bits: options.bits,
    shardSamples: options.shardSamples,
    ladder: options.ladder ?? '',
    seed: options.seed,
    confidence: options.confidence,
  });
  const { directory } = await openRepository(options.repository, { create: true });
  const checkpoint = await openCheckpoint(wish.modelDirectory);
  const { dataset } = await openSplitData(checkpoint, wish);
  // The same command again, on the same checkpoint and data, goes on where it was stopped.
  const asked = JSON.stringify([wish, checkpoint.digest, dataset.digest]);
  const key = createHash('sha256').update(asked).digest('hex').slice(0, 16);
  const progress = createProgress(context);
  const runtime = await openRuntime(options, context);
  try {
    const result = await withLocalJob(directory, key, ({ publication, ...job }) =>
      prune(
        { ...wish, repository: directory, publication },
        { ...job, runtime, signal: context.signal, progress: progress.report.bind(progress) },
      ),
    );
    progress.stop();
    const { manifest, version } = result;
    const rows = prunedRows(manifest);
    const text = `${textTable([`${wish.name} version ${version}`, wish.policy], rows)}\n${result.directory}`;
    await emit(context, text, { name: wish.name, ...result }, options.json);
  } finally {
    progress.stop();
    await runtime.close();
  }
}

/** What a version saves and loses, a row each. */
function prunedRows(manifest: Manifest): string[][] {
  const { flops, deltaLoss, accuracy } = manifest;
  const text = manifest.task === 'text-generation' ? manifest : undefined;
  const { parameters } = text?.text ?? {};
  const { perplexity } = text ?? {};
  return [
    [`FLOPs a ${text ? 'token' : 'sample'}`, `${flopsText(flops.mean)} of ${flopsText(flops.dense)}`],
    ['saved', percent(1 - flops.mean / flops.dense)],
    ...(parameters ? [['parameters in blocks', percent(parameters.blocks / parameters.denseBlocks)]] : []),
    ...(text?.text.bits === undefined ? [] : [['bits of a weight', text.text.bits.toFixed(2)]]),
    ['predicted ΔL', short(deltaLoss?.predicted, 'nats')],
    ['measured ΔL', short(deltaLoss?.measured, 'nats')],
    [`bound (${percent(deltaLoss?.confidence, 0)})`, short(deltaLoss?.bound, 'nats')],
    ['budget', short(manifest.budget?.default ?? manifest.method?.lossBudget, 'nats')],
    ['accuracy', accuracy ? `${percent(accuracy.dense, 2)} → ${percent(accuracy.pruned, 2)}` : 'no labels'],
    ...(perplexity ? [['perplexity', `${short(perplexity.dense)} → ${short(perplexity.pruned)}`]] : []),
  ];
}
