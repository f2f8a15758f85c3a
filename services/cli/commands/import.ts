import { mkdtemp, rm } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { Command } from 'commander';
import { importBaseline } from '../../../libs/pruning/baseline.js';
import type { Manifest } from '../../../libs/store/manifest.js';
import { checkName } from '../../../libs/store/names.js';
import { openRepository } from '../../../libs/store/repository.js';
import { examples, jsonOption } from '../arguments.js';
import type { Context } from '../context.js';
import { emit, flopsText } from '../output.js';

interface Options {
  model: string;
  repository: string;
  name?: string;
  json?: string;
}

export function importCommand(context: Context): Command {
  const command = new Command('import')
    .description('put a checkpoint into a repository, unpruned, as version 1')
    .requiredOption(
      '--model <folder>',
      'a Hugging Face checkpoint: config.json, model.safetensors, and preprocessor_config.json (images) or tokenizer.json (text)',
    )
    .requiredOption('--repository <folder>', 'the model repository; made if it is missing')
    .option('--name <model>', "the model's name in it (default: the folder's)")
    .addOption(jsonOption())
    .action((options: Options) => run(options, context));
  return examples(
    command,
    'import --model my-vit --repository models',
    'import --model pythia-160m --repository models --name pythia',
  );
}

async function run(options: Options, context: Context): Promise<void> {
  const modelDirectory = resolve(options.model);
  const name = checkName(options.name ?? basename(modelDirectory), '--name');
  const { directory } = await openRepository(options.repository, { create: true });
  // On the repository's file system, so that weights that have to be converted can be linked to.
  const workDirectory = await mkdtemp(join(directory, '.import-'));
  try {
    const request = { modelDirectory, repository: directory, name };
    const { published } = await importBaseline(request, { workDirectory, signal: context.signal });
    const { manifest } = published;
    const text =
      `${name} version ${published.version}: ${manifest.architecture}, ${flopsText(manifest.flops.dense)}FLOPs a ${manifest.task === 'text-generation' ? 'token' : 'sample'}, ` +
      `${sizeOf(manifest)}\n${published.directory}`;
    await emit(
      context,
      text,
      { name, version: published.version, directory: published.directory, manifest },
      options.json,
    );
  } finally {
    await rm(workDirectory, { recursive: true, force: true });
  }
}

function sizeOf(manifest: Manifest): string {
  if (manifest.task === 'text-generation')
    return `${manifest.text.vocabulary} tokens, a context of ${manifest.text.context}`;
  return `${manifest.labels.length} classes`;
}
