import { exitCodes, runCommand } from './run.js';

/** The process: signals in, exit code out. The first Ctrl-C lets the command clean up, the second ends it at once. */
const controller = new AbortController();
let told: number | undefined;
for (const [signal, code] of [
  ['SIGINT', exitCodes.interrupted],
  ['SIGTERM', exitCodes.terminated],
] as const) {
  process.on(signal, () => {
    if (told !== undefined) process.exit(code);
    told = code;
    controller.abort();
  });
}
// The reader of a pipe may have seen enough.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(exitCodes.done);
  process.stderr.write(`heartwood: stdout cannot be written: ${error.message}\n`);
  process.exit(exitCodes.failed);
});

const context = { stdout: process.stdout, stderr: process.stderr, signal: controller.signal };
const code = await runCommand(process.argv.slice(2), context, (process.env.HEARTWOOD_DEBUG ?? '') !== '');
// A service that SIGTERM stopped has done what it was told; Ctrl-C is told apart even then.
const stopped = told === exitCodes.interrupted || (told !== undefined && code !== exitCodes.done);
process.exit(stopped ? told : code);
