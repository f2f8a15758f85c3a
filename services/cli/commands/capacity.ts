import { Command, InvalidArgumentError } from 'commander';
import { HeartwoodError, messageOf } from '../../../libs/errors/error.js';
import { openRepository, type Repository } from '../../../libs/store/repository.js';
import type { VersionEntry } from '../../../libs/store/snapshot.js';
import { settingsOf } from '../../server/options.js';
import { examples, integer, jsonOption, versions } from '../arguments.js';
import { type CapacityEstimate, estimateCapacity, type Footprint } from '../capacity/footprint.js';
import { measureFootprint } from '../capacity/measure.js';
import type { Context } from '../context.js';
import { versionsWanted } from '../measure/session.js';
import { emit, short, textTable } from '../output.js';
import { createProgress } from '../progress.js';

interface Options {
  readonly repository: string;
  readonly name?: string;
  readonly versions?: number[];
  readonly workers?: number;
  readonly threads?: number;
  readonly instances?: number;
  readonly runBatch?: number;
  readonly generationRows?: number;
  readonly generationContext?: number;
  readonly generationCacheBytes?: number;
  readonly prefillChunk?: number;
  readonly maxHeldBytes?: number;
  readonly memory?: number;
  readonly json?: string;
}

export function capacityCommand(context: Context): Command {
  const some = integer({ min: 1 });
  const command = new Command('capacity')
    .description('memory and speed of versions on this machine, and what a server of them needs: loads and runs each')
    .requiredOption('--repository <folder>', 'the model repository')
    .option('--name <model>', 'only this model (default: all)')
    .option('--versions <list>', 'with --name: such as 1,2 (default: all)', versions)
    .option('--memory <size>', 'fail unless it fits, such as 8Gi, 2048Mi or bytes', sizeOf)
    .optionsGroup('As for `serve`:')
    .option('--workers <n>', 'workers that run models (default: one for every four cores)', some)
    .option('--threads <n>', 'threads of one inference (default: the cores over the workers)', some)
    .option('--instances <n>', 'workers that each version is loaded on (default: all)', some)
    .option('--run-batch <n>', 'samples of the largest run that requests share (default: 8)', some)
    .option('--generation-rows <n>', 'texts of a version that are generated at a time (default: 16)', some)
    .option('--generation-context <n>', "tokens of a prompt and its text together (default: the model's context)", some)
    .option('--generation-cache-bytes <n>', 'memory of the caches of a version (default: 4 GiB)', some)
    .option('--prefill-chunk <n>', 'prompt tokens of one run (default: 128)', some)
    .option('--max-held-bytes <n>', 'bytes of requests held at a time (default: 512 MiB)', some)
    .addOption(jsonOption())
    .action((options: Options) => run(options, context));
  return examples(
    command,
    'capacity --repository models',
    'capacity --repository models --name vit --versions 2 --workers 2 --threads 4 --memory 4Gi',
    'capacity --repository models --name pythia-160m --generation-rows 8 --generation-context 1024 --json -',
  );
}

async function run(options: Options, context: Context): Promise<void> {
  const { name, versions: asked, memory, json, ...rest } = options;
  const settings = settingsOf(rest);
  const { workers, maxHeldBytes } = settings;
  // As the server counts them.
  const instances = Math.min(settings.instances ?? workers, workers);
  const threads = settings.threads ?? null;
  const repository = await openRepository(options.repository);
  const { entries, problems } = await entriesOf(repository, name, asked);
  const progress = createProgress(context);
  const footprints: Footprint[] = [];
  let firstError: unknown;
  try {
    for (const [done, entry] of entries.entries()) {
      progress.report({ stage: 'measuring', done, total: entries.length, unit: 'versions' });
      try {
        footprints.push(await measureFootprint(repository, entry, { ...settings, instances }, context.signal));
      } catch (error) {
        if (context.signal.aborted || entries.length === 1) throw error;
        const { model } = entry.manifest;
        problems.push(`not measured: version ${entry.version} of ${model}: ${messageOf(error)}`);
        firstError ??= error;
      }
    }
  } finally {
    progress.stop();
  }
  if (footprints.length === 0) throw firstError;
  const estimate = estimateCapacity(footprints, { instances, heldBytes: maxHeldBytes });
  const text = [footprintTable(footprints), ...problems, '', ...summary(estimate, { instances })].join('\n');
  const document = {
    repository: repository.directory,
    settings: { workers, threads, instances },
    versions: footprints,
    problems,
  };
  await emit(context, text, { ...document, estimate, memory: memory ?? null }, json);
  if (memory !== undefined && estimate.limitBytes > memory)
    throw new HeartwoodError(
      'FAILED_PRECONDITION',
      `--memory: ${mebibytes(memory)} is too little, expected at least ${mebibytes(estimate.limitBytes)}`,
    );
  if (problems.length > 0)
    throw new HeartwoodError('FAILED_PRECONDITION', `${problems.length} of the versions not counted: ${problems[0]}`);
}

/** The versions to measure, and a line for each that cannot even be read. */
async function entriesOf(
  repository: Repository,
  name: string | undefined,
  asked: readonly number[] | undefined,
): Promise<{ entries: VersionEntry[]; problems: string[] }> {
  if (name !== undefined) {
    const { wanted } = await versionsWanted(repository, { name, ...(asked ? { versions: asked } : {}) });
    const entries = await Promise.all(wanted.map((version) => repository.resolve(name, version)));
    return { entries, problems: [] };
  }
  if (asked !== undefined) throw new HeartwoodError('INVALID_ARGUMENT', '--versions: expected --name with it');
  const { models, problems } = await repository.snapshot();
  const entries = [...models.values()].flatMap((model) => model.versions);
  // A pin that cannot be read leaves out no version.
  const unread = problems.filter(({ version }) => version !== undefined);
  if (entries.length > 0) return { entries, problems: unread.map(({ error }) => `unreadable: ${error.message}`) };
  throw problems[0]?.error ?? new HeartwoodError('NOT_FOUND', `${repository.directory}: no versions`);
}

function footprintTable(footprints: readonly Footprint[]): string {
  const head = ['model', 'version', 'policy', 'loaded', 'while loading', 'batch', 'run', 'ms', 'a second', 'cache'];
  return textTable(
    head,
    footprints.flatMap((each) =>
      each.runs.map(({ batch, bytes, ms }, at) => [
        at === 0 ? each.model : '',
        at === 0 ? String(each.version) : '',
        at === 0 ? each.policy : '',
        at === 0 ? mebibytes(each.loadedBytes) : '',
        at === 0 ? `+ ${mebibytes(each.loadingBytes)}` : '',
        each.text === null ? String(batch) : '1 text',
        `+ ${mebibytes(bytes)}`,
        short(ms),
        each.text === null
          ? `${short((1000 * batch) / ms)} images`
          : `${short(each.text.prefillTokensPerSecond)} + ${short(each.text.decodeTokensPerSecond)} tokens`,
        each.text === null ? '' : `${each.text.rows} × ${mebibytes(each.text.rowBytes)}`,
      ]),
    ),
  );
}

function summary(estimate: CapacityEstimate, { instances }: { readonly instances: number }): string[] {
  const { serverBytes, modelBytes, runBytes, cacheBytes, loadingBytes, heldBytes } = estimate;
  const copies = instances === 1 ? 'on 1 worker' : `on ${instances} workers each`;
  const rows = [
    ['the server itself', serverBytes],
    [`weights and sessions, ${copies}`, modelBytes],
    ['the largest run of each', runBytes],
    ['caches of texts, full', cacheBytes],
    ['steady', estimate.steadyBytes],
    ['the largest load', loadingBytes],
    ['requests held, by --max-held-bytes', heldBytes],
    ['limit to set', estimate.limitBytes],
  ] as const;
  return [
    textTable(
      ['memory of a server', ''],
      rows.map(([what, bytes]) => [what, mebibytes(bytes)]),
    ),
  ];
}

function mebibytes(bytes: number): string {
  return `${short(bytes / 2 ** 20)} MiB`;
}

const units: Readonly<Record<string, number>> = {
  '': 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
};

/** A quantity as Kubernetes writes memory. */
function sizeOf(text: string): number {
  const match = /^(\d+(?:\.\d+)?)([kMG]i?|Ki|)$/.exec(text.trim());
  const unit = units[match?.[2] ?? 'none'];
  if (!match || unit === undefined) throw new InvalidArgumentError('Expected a size such as 8Gi, 2048Mi or bytes.');
  return Number(match[1]) * unit;
}
