import { Command } from 'commander';
import type { Context } from './context.js';
import { checkWritable } from './output.js';

type Make = (context: Context) => Command;

/** Every command, in the order of the help. Only the one that is asked for is loaded: a service's memory holds nothing of the others. */
const commands: Readonly<Record<string, () => Promise<Make>>> = {
  import: async () => (await import('./commands/import.js')).importCommand,
  score: async () => (await import('./commands/score.js')).scoreCommand,
  prune: async () => (await import('./commands/prune.js')).pruneCommand,
  ladder: async () => (await import('./commands/ladder.js')).ladderCommand,
  evaluate: async () => (await import('./commands/evaluate.js')).evaluateCommand,
  compare: async () => (await import('./commands/compare.js')).compareCommand,
  generate: async () => (await import('./commands/generate.js')).generateCommand,
  list: async () => (await import('./commands/list.js')).listCommand,
  capacity: async () => (await import('./commands/capacity.js')).capacityCommand,
  promote: async () => (await import('./commands/promote.js')).promoteCommand,
  remove: async () => (await import('./commands/remove.js')).removeCommand,
  serve: async () => (await import('./commands/serve.js')).serveCommand,
  pruner: async () => (await import('./commands/pruner.js')).prunerCommand,
  worker: async () => (await import('./commands/pruner.js')).workerCommand,
  health: async () => (await import('./commands/health.js')).healthCommand,
  providers: async () => (await import('./commands/providers.js')).providersCommand,
  train: async () => (await import('./commands/train.js')).trainCommand,
  demo: async () => (await import('./commands/demo.js')).demoCommand,
};

const guide = `
A first round, on your own checkpoint (a Hugging Face folder) and a folder of images by class:
  $ npx heartwood import   --model my-vit --repository models
  $ npx heartwood prune    --model my-vit --data photos/train --loss-budget 0.05 --repository models
  $ npx heartwood evaluate --repository models --name my-vit --data photos/test
  $ npx heartwood serve    --repository models

On a language model (a GPT-NeoX such as Pythia, with its tokenizer.json):
  $ npx heartwood import   --model pythia-160m --repository models
  $ npx heartwood generate --repository models --name pythia-160m "The heartwood of a tree"

Exit codes: 0 done, 1 failed, 2 bad input, 130 interrupted, 143 terminated before it was done. HEARTWOOD_DEBUG=1 shows where an error came from.`;

/**
 * The command line for these arguments. Errors of usage are thrown (CommanderError), after commander has written its line to stderr.
 */
export async function createProgram(context: Context, [asked = '']: readonly string[]): Promise<Command> {
  const program = new Command('heartwood')
    .description(
      'Takes a trained model and a loss budget, gives back a smaller one that adapts its work to each input.',
    )
    .addHelpText('after', guide)
    .helpCommand(true);
  const load = Object.hasOwn(commands, asked) ? [commands[asked]!] : Object.values(commands);
  for (const make of await Promise.all(load.map((one) => one()))) program.addCommand(make(context));
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
