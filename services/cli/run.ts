import { CommanderError } from 'commander';
import { HeartwoodError, messageOf, type ErrorCode } from '../../libs/errors/error.js';
import type { Context } from './context.js';
import { createProgram } from './program.js';

/** What the caller got wrong, and can put right. */
const badInput: ReadonlySet<ErrorCode> = new Set(['INVALID_ARGUMENT', 'NOT_FOUND', 'OUT_OF_RANGE', 'ALREADY_EXISTS']);

export const exitCodes = { done: 0, failed: 1, badInput: 2, interrupted: 130, terminated: 143 } as const;

/**
 * Runs one command line (without `node` and the script) to its end and gives its exit code. Whatever goes wrong is one line on
 * stderr; `debug` adds the stack.
 */
export async function runCommand(argv: readonly string[], context: Context, debug = false): Promise<number> {
  try {
    const program = await createProgram(context, argv);
    await program.parseAsync([...argv], { from: 'user' });
    return exitCodes.done;
  } catch (thrown) {
    if (thrown instanceof CommanderError) return thrown.exitCode === 0 ? exitCodes.done : exitCodes.badInput;
    if (context.signal.aborted) {
      const what = thrown instanceof HeartwoodError ? `: ${thrown.message}` : '';
      context.stderr.write(`heartwood: interrupted${what}\n`);
      return exitCodes.failed;
    }
    const line = messageOf(thrown).replace(/\s*[\r\n]+\s*/g, ' ');
    context.stderr.write(`heartwood: ${line}\n`);
    if (debug && thrown instanceof Error) context.stderr.write(`${detailsOf(thrown)}\n`);
    return thrown instanceof HeartwoodError && badInput.has(thrown.code) ? exitCodes.badInput : exitCodes.failed;
  }
}

function detailsOf(error: Error): string {
  const cause = error.cause instanceof Error ? `\ncaused by ${detailsOf(error.cause)}` : '';
  return `${error.stack ?? error.message}${cause}`;
}
