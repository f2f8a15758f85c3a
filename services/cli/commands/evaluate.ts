import { Command, Option } from 'commander';
import { dataHelp, examples, integer, jsonOption, number, versions, withModel } from '../arguments.js';
import type { Context } from '../context.js';
import { evaluate, tokensText } from '../measure/evaluate.js';
import { evaluateText } from '../measure/evaluate-text.js';
import { versionsWanted, withVersions } from '../measure/session.js';
import { withTextVersions, type TextMeasureOptions } from '../measure/text-session.js';
import type { Interval } from '../../../libs/pruning/statistics/bound.js';
import { TEXT_GENERATION } from '../../../libs/store/manifest.js';
import { withProviderOptions } from '../provider-options.js';
import { openRepository } from '../../../libs/store/repository.js';
import { checkBudgetTaken } from '../../server/inference/budget.js';
import { emit, flopsText, percent, short, textTable } from '../output.js';
import { createProgress } from '../progress.js';

type Options = TextMeasureOptions & { batch: number; stride?: number; json?: string };

/** The options by which `evaluate` and `compare` say what is measured on what. */
export function withDataOptions(command: Command): Command {
  return command
    .requiredOption('--data <data>', dataHelp)
    .option('--versions <list>', 'such as 1,2 (default: all)', versions)
    .addOption(new Option('--split <part>', 'of data that has parts').choices(['train', 'validation', 'test']))
    .option('--samples <n>', 'only so many, drawn by seed (default: all)', integer({ min: 1 }))
    .option('--seed <n>', 'of what is drawn', integer(), 0)
    .option('--budget <nats>', 'loss budget per sample, in place of the default of each version', number({ min: 0 }));
}

export function evaluateCommand(context: Context): Command {
  const command = withProviderOptions(withDataOptions(withModel(new Command('evaluate'))))
    .description(
      'accuracy, loss, FLOPs and tokens kept of the versions of a model, on data; of a language model perplexity',
    )
    .option('--batch <n>', 'images a run', integer({ min: 1, max: 1024 }), 16)
    .option(
      '--window <tokens>',
      "of a sliding window over text (default: 512, or the model's context where that is less)",
      integer({ min: 2 }),
    )
    .option('--stride <tokens>', 'by which the window moves on (default: half of it)', integer({ min: 1 }))
    .addOption(jsonOption())
    .action((options: Options) => run(options, context));
  return examples(
    command,
    'evaluate --repository models --name digits --data demo:digits --split test',
    'evaluate --repository models --name vit --versions 1,2 --data photos/ --budget 0.02 --json result.json',
    'evaluate --repository models --name pythia --data articles.txt --window 1024 --stride 256',
  );
}

async function run(options: Options, context: Context): Promise<void> {
  const repository = await openRepository(options.repository);
  const { wanted } = await versionsWanted(repository, options);
  const manifests = await Promise.all(wanted.map((version) => repository.readManifest(options.name, version)));
  checkBudgetTaken(manifests, options.budget, '--budget');
  const { manifest } = await repository.resolve(options.name, options.versions?.[0]);
  return manifest.task === TEXT_GENERATION ? runText(options, context) : runImages(options, context);
}

async function runText(options: Options, context: Context): Promise<void> {
  const progress = createProgress(context);
  const { signal } = context;
  await withTextVersions(options, context, async ({ versions, baseline, name, digest, documents, window }) => {
    const stride = Math.min(options.stride ?? Math.ceil(window / 2), window - 1);
    const report = progress.report.bind(progress);
    const rows = await evaluateText(versions, baseline, documents, { window, stride, signal, progress: report });
    progress.stop();
    const interval = (found: Interval | null) => (found ? `${short(found.low)} – ${short(found.high)}` : '');
    const table = textTable(
      [
        'version',
        'policy',
        'perplexity',
        '95 %',
        'accuracy',
        'mean KL to 1',
        '95 %',
        'FLOPs',
        'saved',
        'bytes a token',
      ],
      rows.map((row) => [
        String(row.version),
        row.policy,
        short(row.perplexity),
        interval(row.perplexityInterval),
        percent(row.accuracy, 2),
        short(row.kl),
        interval(row.klInterval),
        flopsText(row.flops),
        percent(row.flopsSaved),
        row.bytes === null ? '' : `${(row.bytes / 1e6).toPrecision(3)} MB`,
      ]),
    );
    const size = { documents: rows[0]?.documents ?? 0, tokens: rows[0]?.tokens ?? 0, window, stride };
    const json = { model: options.name, data: options.data, dataDigest: digest, ...size, versions: rows };
    const where = `${size.tokens} tokens of ${size.documents} documents of ${name}; windows of ${window} tokens, stride ${stride}`;
    await emit(context, `${table}\n${where}; intervals over documents`, json, options.json);
  }).finally(() => progress.stop());
}

async function runImages(options: Options, context: Context): Promise<void> {
  const progress = createProgress(context);
  const { signal } = context;
  await withVersions(options, context, async ({ versions, baseline, dataset, indices }) => {
    const report = progress.report.bind(progress);
    const rows = await evaluate(versions, baseline, dataset, indices, {
      batch: options.batch,
      signal,
      progress: report,
    });
    progress.stop();
    const table = textTable(
      ['version', 'policy', 'accuracy', 'mean CE', 'mean KL to 1', 'FLOPs', 'saved', 'tokens', 'budget'],
      rows.map((row, at) => [
        String(row.version),
        row.policy,
        percent(row.accuracy, 2),
        short(row.crossEntropy),
        short(row.kl),
        flopsText(row.flops),
        percent(row.flopsSaved),
        tokensText(versions[at]!.manifest.tokens.total, row.tokensKept),
        short(row.budget),
      ]),
    );
    const json = { model: options.name, data: options.data, dataDigest: dataset.digest, versions: rows };
    await emit(context, `${table}\n${indices.length} samples of ${dataset.name}`, json, options.json);
  }).finally(() => progress.stop());
}
