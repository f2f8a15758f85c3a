import { Command, Option } from 'commander';
import { recipeNames, recipes, type RecipeName } from '../../../libs/training/recipes/index.js';
import { train } from '../../../libs/training/train-recipe.js';
import { examples, integer, jsonOption } from '../arguments.js';
import type { Context } from '../context.js';
import { emit, percent, short, textTable } from '../output.js';
import { createProgress } from '../progress.js';

interface Options {
  recipe: RecipeName;
  out?: string;
  saveEvery: number;
  json?: string;
}

const outs = recipeNames.map((name) => recipes[name].out).join(', ');

export function trainCommand(context: Context): Command {
  const command = new Command('train')
    .description('train a checkpoint from nothing; a run that was stopped goes on where it was')
    .addOption(new Option('--recipe <name>', 'what is trained').choices(recipeNames).makeOptionMandatory())
    .option('--out <folder>', `where the checkpoint goes (default: ${outs})`)
    .option('--save-every <n>', 'steps between two saves of the state', integer({ min: 1 }), 250)
    .addOption(jsonOption())
    .action((options: Options) => run(options, context));
  return examples(command, 'train --recipe demo --out my-digits', 'train --recipe brown');
}

async function run(options: Options, context: Context): Promise<void> {
  const { out, open } = recipes[options.recipe];
  const progress = createProgress(context);
  const terminal = context.stderr.isTTY === true;
  const report = await train(
    { job: await open(), out: options.out ?? out, saveEvery: options.saveEvery },
    {
      signal: context.signal,
      progress: progress.report.bind(progress),
      note: (line) => {
        if (!terminal) return;
        progress.stop();
        context.stderr.write(`${line}\n`);
      },
    },
  ).finally(() => progress.stop());
  const rows = Object.entries({ validation: report.validation, test: report.test }).map(([split, result]) => [
    split,
    String(result.samples),
    percent(result.accuracy, 2),
    short(result.loss),
  ]);
  const table = textTable(['split', 'samples', 'accuracy', 'cross-entropy'], rows);
  const summary = `${report.directory}: ${report.steps} steps in ${report.minutes.toFixed(1)} min, ${report.megabytes.toFixed(2)} MB`;
  await emit(context, `${table}\n${summary}`, report, options.json);
}
