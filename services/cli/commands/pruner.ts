import { Command, Option } from 'commander';
import type { PrunerOptions, WorkerOptions } from '../../pruner/options.js';
import { startPruner } from '../../pruner/pruner.js';
import { startWorker } from '../../pruner/worker.js';
import { examples, integer, number } from '../arguments.js';
import type { Context } from '../context.js';
import { providerOptionsOf, withProviderOptions } from '../provider-options.js';
import { secretsOf, withTransportOptions } from '../transport-options.js';
import { untilStopped } from '../until-stopped.js';

/** The lists by the names of flags that are given once for each of their folders. */
interface Roots {
  modelRoot?: string[];
  dataRoot?: string[];
}
type Options = Omit<PrunerOptions, 'dataDirectory' | 'modelRoots' | 'dataRoots'> &
  Roots & { dataDirectory?: string | undefined };
type OptionsOfWorker = Omit<WorkerOptions, 'modelRoots' | 'dataRoots'> & Roots;

/** The options that a pruner and a worker share. */
function withEngineOptions(command: Command): Command {
  const port = integer({ min: 0, max: 65535 });
  const some = integer({ min: 1 });
  return withProviderOptions(command)
    .option('--model-root <folder>', 'read models only from below it; again for more (default: from anywhere)', folders)
    .option('--data-root <folder>', 'the same for calibration data; bundled data is always there', folders)
    .option('--host <address>', 'address to listen on (default: all)')
    .option('--metrics-port <n>', 'Prometheus metrics (default: 8004; 0: a free one, named in the log)', port)
    .option('--workers <n>', 'threads that run models (default: 1)', some)
    .option('--threads <n>', 'threads of one run (default: the cores over the workers)', some)
    .option(
      '--lease-seconds <n>',
      'seconds that a job or a shard stays with a process that gives no sign of life (default: 30)',
      number({ min: 0, inclusive: false }),
    )
    .option('--log-level <level>', 'trace, debug, info, warn, error or silent (default: info)');
}

export function prunerCommand(context: Context): Command {
  const command = withTransportOptions(
    withEngineOptions(
      new Command('pruner')
        .requiredOption('--repository <folder>', 'the model repository; made when it is missing')
        .option(
          '--data-directory <folder>',
          'jobs and their files (default: the repository with .jobs behind its name)',
        ),
    ),
  )
    .description('take pruning jobs over gRPC; a job survives the death of the process')
    .addOption(
      databaseOption(
        'postgres://…, which workers can share; by the environment it is not seen in the list of processes (default: a database inside this process)',
      ),
    )
    .option('--port <n>', 'gRPC (default: 8003; 0: a free one, named in the log)', integer({ min: 0, max: 65535 }))
    .action((options: Options) =>
      untilStopped((signal) => startPruner({ ...withData(options), ...secretsOf(process.env) }, { signal }), context),
    );
  return examples(
    command,
    'pruner --repository models',
    'pruner --repository models --database postgres://heartwood@localhost/heartwood',
  );
}

export function workerCommand(context: Context): Command {
  const command = withEngineOptions(new Command('worker').addOption(databaseOption("postgres://…, the pruner's")))
    .description(
      "more hands for a pruner's jobs: takes shards of what they measure, as many workers as there are machines",
    )
    .option('--repository <folder>', "the pruner's model repository, to run whole jobs too (default: shards alone)")
    .option('--data-directory <folder>', 'files while a shard is measured (default: a temporary folder)')
    .action((options: OptionsOfWorker) =>
      untilStopped((signal) => startWorker(withWorkerData(options), { signal }), context),
    )
    .addHelpText('after', workerGuide);
  return examples(
    command,
    'worker --database postgres://heartwood@db.local/heartwood --threads 4',
    'worker --database postgres://heartwood@db.local/heartwood --repository models',
  );
}

const workerGuide = `
A pruner on a PostgreSQL database divides what a job measures over its samples into shards. It takes them itself, and so does every worker
on the same database; the plan is the same, bit for bit, however many there are. A worker reads the model and the data under the paths of the
job (a shared volume) and refuses a shard whose digests differ, with the reason in its log. What a worker that dies had in hand is taken by another
once its lease has run out. SIGTERM gives the shard in hand back. --metrics-port also answers /healthz and /readyz.`;

/** The URL may hold a password, hence the variable: the arguments of a process can be read by others. */
const databaseOption = (help: string) => new Option('--database <url>', help).env('HEARTWOOD_DATABASE');

function withData(options: Options): PrunerOptions {
  const { dataDirectory, repository } = options;
  return { ...settled(options), repository, dataDirectory: dataDirectory ?? besides(repository) };
}

/** Without a repository there are no files of jobs. */
function withWorkerData(options: OptionsOfWorker): WorkerOptions {
  const dataDirectory = options.dataDirectory ?? (options.repository && besides(options.repository));
  return { ...settled(options), ...(dataDirectory ? { dataDirectory } : {}) };
}

const besides = (repository: string): string => `${repository.replace(/\/+$/, '')}.jobs`;

function settled<T extends Roots & WorkerOptions>({ modelRoot, dataRoot, ...options }: T) {
  return {
    ...options,
    ...providerOptionsOf(options),
    ...(modelRoot ? { modelRoots: modelRoot } : {}),
    ...(dataRoot ? { dataRoots: dataRoot } : {}),
  };
}

/** One folder more; the option may be given several times. */
const folders = (folder: string, before: readonly string[] = []): string[] => [...before, folder];
