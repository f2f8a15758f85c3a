import { Command } from 'commander';
import { openRepository } from '../../../libs/store/repository.js';
import { examples, integer, jsonOption, withModel } from '../arguments.js';
import type { Context } from '../context.js';
import { emit } from '../output.js';

interface Options {
  repository: string;
  name: string;
  version: number;
  force?: boolean;
  json?: string;
}

export function removeCommand(context: Context): Command {
  const command = withModel(new Command('remove'))
    .description('delete a version; its number is not given again')
    .requiredOption('--version <n>', 'the version', integer({ min: 1 }))
    .option('--force', 'also where it is pinned, or others were made from it')
    .addOption(jsonOption())
    .action((options: Options) => remove(options, context));
  return examples(command, 'remove --repository models --name vit --version 2');
}

async function remove(options: Options, context: Context): Promise<void> {
  const repository = await openRepository(options.repository);
  await repository.remove(options.name, options.version, { force: options.force ?? false });
  const json = { model: options.name, removed: options.version };
  await emit(context, `${options.name}: version ${options.version} is removed`, json, options.json);
}
