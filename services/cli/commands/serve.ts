import { setFlagsFromString } from 'node:v8';
import { Command, InvalidArgumentError, Option } from 'commander';
import { messageOf } from '../../../libs/errors/error.js';
import { meterChoices } from '../../../libs/energy/meters/index.js';
import { isolations } from '../../../libs/runtime/carrier.js';
import { type LatencyObjective, parseObjective } from '../../server/adapting/latency/objective.js';
import { ladderUses } from '../../server/catalog/ladder-session.js';
import { loadControls } from '../../server/catalog/load-control.js';
import { startServer } from '../../server/server.js';
import type { ServerOptions } from '../../server/options.js';
import { examples, integer, integers, number } from '../arguments.js';
import type { Context } from '../context.js';
import { untilStopped } from '../until-stopped.js';
import { providerOptionsOf, withProviderOptions } from '../provider-options.js';
import { secretsOf, withTransportOptions } from '../transport-options.js';

type Options = ServerOptions & { readonly loadModel?: string[] };

export function serveCommand(context: Context): Command {
  const port = integer({ min: 0, max: 65535 });
  const some = integer({ min: 1 });
  const command = new Command('serve')
    .description('serve every version of a repository over the Open Inference Protocol')
    .requiredOption('--repository <folder>', 'the model repository; new versions in it are picked up')
    .option('--host <address>', 'address to listen on (default: all)')
    .option('--port <n>', 'gRPC (default: 8001; 0: a free one, named in the log)', port)
    .option('--metrics-port <n>', 'Prometheus metrics (default: 8002)', port)
    .option('--log-level <level>', 'trace, debug, info, warn, error or silent (default: info)')
    .option('--drain-ms <n>', 'how long a stop waits for the requests under way (default: 30000)', integer())
    .optionsGroup('Workers and runs:')
    .option('--workers <n>', 'workers that run models (default: one for every four cores)', some)
    .option('--threads <n>', 'threads of one inference (default: the cores over the workers)', some)
    .option('--instances <n>', 'workers that each version is loaded on (default: all)', some)
    .addOption(
      new Option('--isolation <kind>', 'what a worker runs in: a process survives crashes of the others').choices(
        isolations,
      ),
    )
    .option('--run-limit-ms <n>', 'end a worker process that takes longer over one load or run (default: 600000)', some)
    .option('--run-batch <n>', 'samples of the largest run that requests share (default: 8)', some)
    .option('--preferred-batches <n,...>', 'run as soon as so many samples wait', integers({ min: 1 }))
    .option(
      '--queue-delay-ms <ms>',
      'how long a request waits for others to share its run (default: 0)',
      number({ min: 0 }),
    )
    .option('--queue-limit <n>', 'requests of a version that may wait; more are refused (default: 128)', some)
    .option('--queue-bytes <n>', 'bytes of tensors that may wait for a version (default: 256 MiB)', some)
    .option(
      '--queue-timeout-ms <ms>',
      'refuse a request that has not begun by then (default: never)',
      number({ min: 0, inclusive: false }),
    )
    .optionsGroup('Text:')
    .option('--generation-rows <n>', 'texts of a version that are generated at a time (default: 16)', some)
    .option('--generation-context <n>', "tokens of a prompt and its text together (default: the model's context)", some)
    .option(
      '--generation-cache-bytes <n>',
      'memory of the caches of a version; fewer texts at a time where it would be more (default: 4 GiB)',
      some,
    )
    .option('--prefill-chunk <n>', 'prompt tokens of one run, for which running texts wait (default: 128)', some)
    .option('--generation-queue-limit <n>', 'texts of a version that may wait; more are refused (default: 128)', some)
    .option(
      '--stream-interval-ms <ms>',
      'between two pieces of a text that comes quicker; 0: every token at once (default: 30)',
      integer({ min: 0 }),
    )
    .option('--text-window <n>', 'texts of one stream that are generated at a time (default: 32)', some)
    .optionsGroup('Versions:')
    .addOption(
      new Option(
        '--load-control <mode>',
        'what loads versions: none (only what is there at the start), poll (the repository; default), explicit (calls)',
      ).choices(loadControls),
    )
    .option(
      '--load-model <name>',
      'a model that is loaded at the start with --load-control explicit; again for more, * for all',
      (name: string, names: string[] = []) => [...names, name],
    )
    .option('--poll-ms <n>', 'milliseconds between two looks at the repository (default: 1000)', integer({ min: 10 }))
    .addOption(
      new Option(
        '--ladder <when>',
        'serve versions at the fixed counts of tokens that they were written for (default: auto, with tensorrt)',
      ).choices(ladderUses),
    )
    .option('--no-warm-up', 'let versions take requests without having run made-up samples first')
    .optionsGroup('Limits of a request:')
    .option('--max-batch <n>', 'samples of the largest request (default: 64)', some)
    .option('--max-image-pixels <n>', "pixels of one request's images in all (default: 200000000)", some)
    .option('--compare-max-samples <n>', 'samples of a comparison (default: 10000)', some)
    .option('--compare-max-bytes <n>', 'bytes that the samples of a comparison may hold (default: 256 MiB)', some)
    .option('--compare-idle-ms <n>', 'milliseconds for the next sample of a comparison (default: 60000)', some)
    .optionsGroup('Adapting:')
    .option(
      '--latency-slo <[model=]time>',
      '95th percentile of the latency of classifiers to keep by raising the budget up to its ceiling, such as 50ms; again for more models',
      objectives,
    )
    .option(
      '--shadow <share>',
      'share of the answered requests that version 1 runs too, to be compared (default: 0)',
      number({ min: 0, max: 1 }),
    )
    .optionsGroup('Energy:')
    .addOption(
      new Option('--energy-meter <name>', 'which meter (default: auto, the first that is found)').choices(meterChoices),
    )
    .option(
      '--energy-sample-hz <n>',
      'readings of it a second, 100 at most (default: 20)',
      number({ min: 0, inclusive: false }),
    )
    .option('--energy-root <folder>', 'where the /sys of the machine is (default: /)')
    .action(({ loadModel, ...options }: Options) => {
      const loadModels = loadModel ? { loadModels: loadModel } : {};
      const settings = { ...options, ...loadModels, ...providerOptionsOf(options), ...secretsOf(process.env) };
      // A call's garbage is collected with the old objects alone, since its native stream keeps it past the young collections. By default
      // V8 would let it come to several times what is alive before it marks the heap, which takes it some ten milliseconds.
      setFlagsFromString('--heap-growing-percent=30');
      return untilStopped((signal) => startServer(settings, undefined, undefined, signal), context);
    });
  return examples(
    withTransportOptions(withProviderOptions(command)),
    'serve --repository models',
    'serve --repository models --port 0 --metrics-port 0',
    'serve --repository models --latency-slo 50ms --shadow 0.05',
  );
}

/** One objective more; the option may be given several times. */
function objectives(text: string, before: readonly LatencyObjective[] = []): LatencyObjective[] {
  try {
    return [...before, parseObjective(text)];
  } catch (thrown) {
    throw new InvalidArgumentError(messageOf(thrown));
  }
}
