import { Command } from 'commander';
import { openRepository } from '../../../libs/store/repository.js';
import { type Manifest, TEXT_GENERATION } from '../../../libs/store/manifest.js';
import { HeartwoodError } from '../../../libs/errors/error.js';
import { examples, jsonOption } from '../arguments.js';
import type { Context } from '../context.js';
import { emit, flopsText, percent, short, textTable } from '../output.js';

interface Options {
  repository: string;
  name?: string;
  json?: string;
}

export function listCommand(context: Context): Command {
  const command = new Command('list')
    .description('the models and versions of a repository')
    .requiredOption('--repository <folder>', 'the model repository')
    .option('--name <model>', 'only this model')
    .addOption(jsonOption())
    .action((options: Options) => list(options, context));
  return examples(command, 'list --repository models', 'list --repository models --name vit --json -');
}

async function list(options: Options, context: Context): Promise<void> {
  const repository = await openRepository(options.repository);
  // Throws where the name is none, or not there.
  if (options.name !== undefined) await repository.listVersions(options.name);
  const snapshot = await repository.snapshot();
  const models = [...snapshot.models.values()].filter(
    ({ name }) => options.name === undefined || name === options.name,
  );
  const problems = snapshot.problems.filter(({ model }) => options.name === undefined || model === options.name);
  const rows = models.flatMap((model) =>
    model.versions.map(({ version, manifest }) => ({
      model: model.name,
      version,
      default: model.default === version,
      pinned: model.pinned === version,
      ...facts(manifest),
    })),
  );
  const text = textTable(
    ['model', 'version', 'default', 'task', 'policy', 'FLOPs', 'saved', 'budget', 'ΔL ≤', 'created'],
    rows.map((row) => [
      row.model,
      String(row.version),
      row.pinned ? 'pinned' : row.default ? 'newest' : '',
      row.task === TEXT_GENERATION ? `text, ${row.context}` : 'images',
      row.policy,
      flopsText(row.flops),
      percent(row.flopsSaved),
      short(row.budget),
      short(row.deltaLossBound),
      row.createdAt.slice(0, 16).replace('T', ' '),
    ]),
  );
  const complaints = problems.map(({ error }) => `unreadable: ${error.message}`);
  const json = { repository: repository.directory, versions: rows, problems: complaints };
  const body = rows.length === 0 ? `${repository.directory}: no versions` : text;
  await emit(context, [body, ...complaints].join('\n'), json, options.json);
  if (rows.length === 0 && problems.length > 0) throw problemsOnly(problems[0]!.error);
}

function problemsOnly(error: HeartwoodError): HeartwoodError {
  return new HeartwoodError(error.code, `nothing in the repository can be read: ${error.message}`, { cause: error });
}

function facts(manifest: Manifest) {
  return {
    task: manifest.task,
    /** Tokens of a language model's prompt and text together. */
    context: manifest.task === TEXT_GENERATION ? manifest.text.context : null,
    policy: manifest.method?.policy ?? 'unpruned',
    units: manifest.method?.units ?? [],
    flops: manifest.flops.mean,
    flopsSaved: 1 - manifest.flops.mean / manifest.flops.dense,
    budget: manifest.budget?.default ?? null,
    deltaLossBound: manifest.deltaLoss?.bound ?? null,
    createdAt: manifest.createdAt,
    parent: manifest.parent,
    architecture: manifest.architecture,
  };
}
