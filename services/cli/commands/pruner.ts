import { Command, Option } from 'commander';
import type { PrunerOptions } from '../../pruner/options.js';
import { startPruner, startWorker } from '../../pruner/pruner.js';
import { examples, integer } from '../arguments.js';
import type { Context } from '../context.js';
import { providerOptionsOf, withProviderOptions } from '../provider-options.js';
import { secretsOf, withTransportOptions } from '../transport-options.js';
import { untilStopped } from '../until-stopped.js';

type Options = Omit<PrunerOptions, 'dataDirectory' | 'modelRoots' | 'dataRoots'> & {
  dataDirectory?: string;
  modelRoot?: string[];
  dataRoot?: string[];
};

/** The options that a pruner and a worker share. */
function withEngineOptions(command: Command): Command {
  const port = integer({ min: 0, max: 65535 });
  const some = integer({ min: 1 });
  return withProviderOptions(command)
    .requiredOption('--repository <folder>', 'the model repository; made when it is missing')
    .option('--data-directory <folder>', 'jobs and their files (default: the repository with .jobs behind its name)')
    .option('--model-root <folder>', 'read models only from below it; again for more (default: from anywhere)', folders)
    .option('--data-root <folder>', 'the same for calibration data; bundled data is always there', folders)
    .option('--host <address>', 'address to listen on (default: all)')
    .option('--metrics-port <n>', 'Prometheus metrics (default: 8004; 0: a free one, named in the log)', port)
    .option('--workers <n>', 'threads that run models (default: 1)', some)
    .option('--threads <n>', 'threads of one run (default: the cores over the workers)', some)
    .option('--log-level <level>', 'trace, debug, info, warn, error or silent (default: info)');
}

export function prunerCommand(context: Context): Command {
  const command = withTransportOptions(withEngineOptions(new Command('pruner')))
    .description('take pruning jobs over gRPC; a job survives the death of the process')
    .addOption(
      databaseOption(
        'postgres://…; by the environment it is not seen in the list of processes (default: a database inside this process)',
      ),
    )
    .option('--port <n>', 'gRPC (default: 8003; 0: a free one, named in the log)', integer({ min: 0, max: 65535 }))
    .action((options: Options) =>
      untilStopped(() => startPruner({ ...withData(options), ...secretsOf(process.env) }), context),
    );
  return examples(
    command,
    'pruner --repository models',
    'pruner --repository models --database postgres://heartwood@localhost/heartwood',
  );
}

export function workerCommand(context: Context): Command {
  const command = withEngineOptions(new Command('worker'))
    .description("more hands for a pruner's jobs; it must see the same paths")
    .addOption(databaseOption("postgres://…, the pruner's").makeOptionMandatory())
    .action((options: Options) => untilStopped(() => startWorker(withData(options)), context));
  return examples(command, 'worker --repository models --database postgres://heartwood@localhost/heartwood');
}

/** The URL may hold a password, hence the variable. */
const databaseOption = (help: string) => new Option('--database <url>', help).env('HEARTWOOD_DATABASE');

function withData({ modelRoot, dataRoot, ...options }: Options): PrunerOptions {
  return {
    ...options,
    ...providerOptionsOf(options),
    dataDirectory: options.dataDirectory ?? `${options.repository.replace(/\/+$/, '')}.jobs`,
    ...(modelRoot ? { modelRoots: modelRoot } : {}),
    ...(dataRoot ? { dataRoots: dataRoot } : {}),
  };
}

/** One folder more; the option may be given several times. */
const folders = (folder: string, before: readonly string[] = []): string[] => [...before, folder];
