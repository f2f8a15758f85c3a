import { Command } from 'commander';
import { invalid } from '../../../libs/errors/error.js';
import { openRepository } from '../../../libs/store/repository.js';
import { examples, integer, jsonOption, withModel } from '../arguments.js';
import type { Context } from '../context.js';
import { emit } from '../output.js';

interface Options {
  repository: string;
  name: string;
  version?: number;
  unpin?: boolean;
  json?: string;
}

export function promoteCommand(context: Context): Command {
  const command = withModel(new Command('promote'))
    .description('make a version the one that requests without a version go to')
    .option('--version <n>', 'the version', integer({ min: 1 }))
    .option('--unpin', 'make the newest version the default again')
    .addOption(jsonOption())
    .action((options: Options) => promote(options, context));
  return examples(
    command,
    'promote --repository models --name vit --version 2',
    'promote --repository models --name vit --unpin',
  );
}

async function promote(options: Options, context: Context): Promise<void> {
  if ((options.version === undefined) !== (options.unpin === true)) {
    throw invalid('promote: expected either --version N or --unpin');
  }
  const repository = await openRepository(options.repository);
  if (options.version === undefined) await repository.unpin(options.name);
  else await repository.promote(options.name, options.version);
  const { version } = await repository.resolve(options.name);
  const pinned = options.version !== undefined;
  const text = pinned
    ? `${options.name}: version ${version} is pinned`
    : `${options.name}: the newest, ${version}, is the default`;
  await emit(context, text, { model: options.name, default: version, pinned }, options.json);
}
