import { invalid } from '../errors/error.js';

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

/**
 * Checks the name of a model, which becomes a folder's name and a metric's label: letters, digits, `.`, `_` and `-`,
 * beginning with a letter or digit, at most 128, without `..`.
 * @param field what to call it in the message
 * @throws HeartwoodError INVALID_ARGUMENT
 */
export function checkName(name: string, field = 'name'): string {
  if (typeof name !== 'string' || !NAME.test(name) || name.includes('..'))
    throw invalid(
      `${field}: expected 1 to 128 letters, digits, '.', '_' or '-' beginning with a letter or digit and without '..', ` +
        `got ${JSON.stringify(String(name).slice(0, 140))}`,
    );
  return name;
}

/** Checks a version's number. @throws HeartwoodError INVALID_ARGUMENT */
export function checkVersion(version: number, field = 'version'): number {
  if (!Number.isSafeInteger(version) || version < 1)
    throw invalid(`${field}: expected a whole number of 1 or more, got ${String(version).slice(0, 40)}`);
  return version;
}

/** The version that a folder's name stands for: decimal without leading zeros (as Triton reads it), else undefined. */
export function parseVersion(folder: string): number | undefined {
  if (!/^[1-9][0-9]{0,14}$/.test(folder)) return undefined;
  return Number(folder);
}
