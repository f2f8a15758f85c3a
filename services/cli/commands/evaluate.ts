import { Command, Option } from 'commander';
import { dataHelp, examples, integer, jsonOption, number, versions, withModel } from '../arguments.js';
import type { Context } from '../context.js';
import { evaluate, tokensText } from '../measure/evaluate.js';
import { withVersions, type MeasureOptions } from '../measure/session.js';
import { emit, flopsText, percent, short, textTable } from '../output.js';
import { createProgress } from '../progress.js';

type Options = MeasureOptions & { batch: number; json?: string };

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
  const command = withDataOptions(withModel(new Command('evaluate')))
    .description('accuracy, loss, FLOPs and tokens kept of the versions of a model, on data')
    .option('--batch <n>', 'samples a run', integer({ min: 1, max: 1024 }), 16)
    .addOption(jsonOption())
    .action((options: Options) => run(options, context));
  return examples(
    command,
    'evaluate --repository models --name digits --data demo:digits --split test',
    'evaluate --repository models --name vit --versions 1,2 --data photos/ --budget 0.02 --json result.json',
  );
}

async function run(options: Options, context: Context): Promise<void> {
  const progress = createProgress(context);
  const { signal } = context;
  await withVersions(options, signal, async ({ versions, baseline, dataset, indices }) => {
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
