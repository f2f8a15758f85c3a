import { Command } from 'commander';
import { startServer, type RunningServer } from '../../server/server.js';
import type { ServerOptions } from '../../server/options.js';
import { examples, integer } from '../arguments.js';
import type { Context } from '../context.js';
import { secretsOf, withTransportOptions } from '../transport-options.js';

type Options = ServerOptions;

export function serveCommand(context: Context): Command {
  const port = integer({ min: 0, max: 65535 });
  const some = integer({ min: 1 });
  const command = withTransportOptions(new Command('serve'))
    .description('serve every version of a repository over the Open Inference Protocol')
    .requiredOption('--repository <folder>', 'the model repository; new versions in it are picked up')
    .option('--host <address>', 'address to listen on (default: all)')
    .option('--port <n>', 'gRPC (default: 8001; 0: a free one, named in the log)', port)
    .option('--metrics-port <n>', 'Prometheus metrics (default: 8002)', port)
    .option('--workers <n>', 'threads that run models (default: 1)', some)
    .option('--threads <n>', 'threads of one inference (default: the cores over the workers)', some)
    .option('--poll-ms <n>', 'milliseconds between two looks at the repository (default: 1000)', integer({ min: 10 }))
    .option('--max-batch <n>', 'samples of the largest request (default: 64)', some)
    .option('--max-image-pixels <n>', "pixels of one request's images in all (default: 200000000)", some)
    .option('--log-level <level>', 'trace, debug, info, warn, error or silent (default: info)')
    .action((options: Options) => untilStopped(() => startServer({ ...options, ...secretsOf(process.env) }), context));
  return examples(command, 'serve --repository models', 'serve --repository models --port 0 --metrics-port 0');
}

/** Runs a service until Ctrl-C or SIGTERM, then stops it. */
export async function untilStopped(start: () => Promise<Pick<RunningServer, 'stop'>>, context: Context): Promise<void> {
  context.signal.throwIfAborted();
  const running = await start();
  if (!context.signal.aborted) {
    await new Promise<void>((resolve) => context.signal.addEventListener('abort', () => resolve(), { once: true }));
  }
  await running.stop();
}
