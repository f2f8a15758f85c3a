import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { addLadder } from '../../../libs/pruning/ladder/add-ladder.js';
import { parseLadder } from '../../../libs/pruning/ladder/counts.js';
import { ladderFlops } from '../../../libs/store/ladder-part.js';
import { imageManifest } from '../../../libs/store/manifest.js';
import { openRepository } from '../../../libs/store/repository.js';
import { examples, integer, jsonOption, ladderOption, withModel } from '../arguments.js';
import type { Context } from '../context.js';
import { emit, flopsText, textTable } from '../output.js';

interface Options {
  readonly model: string;
  readonly repository: string;
  readonly name: string;
  readonly modelVersion?: number;
  readonly ladder: string;
  readonly json?: string;
}

export function ladderCommand(context: Context): Command {
  const command = withModel(new Command('ladder'))
    .description(
      'publish a pruned version again, with the same model at fixed counts of tokens; nothing is searched anew',
    )
    .requiredOption('--model <folder>', 'the checkpoint that it was pruned from')
    .option('--model-version <n>', 'which version (default: the pinned one, else the newest)', integer({ min: 1 }))
    .addOption(ladderOption().makeOptionMandatory())
    .addOption(jsonOption())
    .action((options: Options) => run(options, context));
  return examples(command, 'ladder --model my-vit --repository models --name my-vit --ladder 4');
}

async function run(options: Options, context: Context): Promise<void> {
  const repository = await openRepository(options.repository);
  const request = {
    modelDirectory: options.model,
    name: options.name,
    version: options.modelVersion,
    ladder: parseLadder(options.ladder),
  };
  const workDirectory = await mkdtemp(join(tmpdir(), 'heartwood-ladder-'));
  try {
    const published = await addLadder(repository, request, { workDirectory, signal: context.signal });
    const ladder = imageManifest(published.manifest).ladder!;
    const rows = ladder.counts.map((count) => {
      const flops = ladderFlops(
        ladder,
        ladder.stages.map(() => count),
      );
      return [String(count), flopsText(flops)];
    });
    const table = textTable(['tokens after every stage', 'FLOPs'], rows);
    const { version, directory } = published;
    const text = `${table}\n${options.name} version ${version}: ${directory}`;
    await emit(context, text, { name: options.name, version, directory, ladder }, options.json);
  } finally {
    await rm(workDirectory, { recursive: true, force: true });
  }
}
