import { Command } from 'commander';
import { compareCommand } from './commands/compare.js';
import { demoCommand } from './commands/demo.js';
import { evaluateCommand } from './commands/evaluate.js';
import { importCommand } from './commands/import.js';
import { listCommand } from './commands/list.js';
import { prunerCommand, workerCommand } from './commands/pruner.js';
import { pruneCommand } from './commands/prune.js';
import { promoteCommand } from './commands/promote.js';
import { removeCommand } from './commands/remove.js';
import { scoreCommand } from './commands/score.js';
import { serveCommand } from './commands/serve.js';
import { trainCommand } from './commands/train.js';
import type { Context } from './context.js';
import { checkWritable } from './output.js';

/** Every command, in the order of the help. */
const commands: readonly ((context: Context) => Command)[] = [
  importCommand,
  scoreCommand,
  pruneCommand,
  evaluateCommand,
  compareCommand,
  listCommand,
  promoteCommand,
  removeCommand,
  serveCommand,
  prunerCommand,
  workerCommand,
  trainCommand,
  demoCommand,
];

const guide = `
A first round, on your own checkpoint (a Hugging Face folder) and a folder of images by class:
  $ npx heartwood import   --model my-vit --repository models
  $ npx heartwood prune    --model my-vit --data photos/train --loss-budget 0.05 --repository models
  $ npx heartwood evaluate --repository models --name my-vit --data photos/test
  $ npx heartwood serve    --repository models

Exit codes: 0 done, 1 failed, 2 bad input, 130 interrupted. HEARTWOOD_DEBUG=1 shows where an error came from.`;

/** The command line. Errors of usage are thrown (CommanderError), after commander has written its line to stderr. */
export function createProgram(context: Context): Command {
  const program = new Command('heartwood')
    .description(
      'Takes a trained model and a loss budget, gives back a smaller one that adapts its work to each input.',
    )
    .addHelpText('after', guide)
    .helpCommand(true);
  for (const make of commands) program.addCommand(make(context));
  // Before the work, not after it.
  program.hook('preAction', async (_, command) => {
    const { json } = command.opts<{ json?: string }>();
    if (json !== undefined && json !== '-') await checkWritable(json);
  });
  const settings = (command: Command) =>
    command
      .exitOverride()
      .showSuggestionAfterError(true)
      .configureOutput({
        writeOut: (text) => void context.stdout.write(text),
        writeErr: (text) => void context.stderr.write(text),
        outputError: (text, write) => write(text.replace(/^error:/, 'heartwood:').replace(/\n(?=.)/g, ' ')),
      });
  settings(program);
  program.commands.forEach(settings);
  return program;
}
