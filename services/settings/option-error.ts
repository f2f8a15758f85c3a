import type { z } from 'zod';
import { type HeartwoodError, invalid } from '../../libs/errors/error.js';

/** Settings whose flag is not their own name with dashes. */
const named: Readonly<Record<string, string>> = {
  // Given once for each.
  loadModels: '--load-model',
  modelRoots: '--model-root',
  dataRoots: '--data-root',
  warmUp: '--no-warm-up',
  // No flag, since the arguments of a process can be read by others.
  authToken: 'HEARTWOOD_AUTH_TOKEN',
};

/** A setting as the command line calls it: `drainMs` is `--drain-ms`. */
export function flagOf(setting: string): string {
  return Object.hasOwn(named, setting)
    ? named[setting]!
    : `--${setting.replace(/[A-Z]/g, (capital) => `-${capital.toLowerCase()}`)}`;
}

/** What is said of a setting that is no good, in one line. */
export function optionError(setting: string, expected: string, cause?: unknown): HeartwoodError {
  return invalid(`option ${flagOf(setting)}: ${expected}`, cause);
}

/** The same of settings that a schema refused, of the first of them. */
export function optionErrorOf(error: z.ZodError): HeartwoodError {
  const issue = error.issues[0];
  const setting = issue?.path[0];
  const expected = issue?.message ?? 'not as expected';
  return setting === undefined ? invalid(`options: ${expected}`, error) : optionError(String(setting), expected, error);
}
