import { HeartwoodError, messageOf, type ErrorCode } from './error.js';

/** Errors of the system that say that there is no room; it is the machine's fault, not that of what was asked. */
const full: ReadonlySet<string> = new Set(['ENOSPC', 'EDQUOT', 'EFBIG', 'EMFILE', 'ENFILE']);
/** Those that say that one may not or cannot write there: another place is wanted. */
const elsewhere: ReadonlySet<string> = new Set([
  'EROFS',
  'EACCES',
  'EPERM',
  'ENOENT',
  'ENOTDIR',
  'EISDIR',
  'EEXIST',
  'ENAMETOOLONG',
]);

/**
 * The error of a place that could not be written to: RESOURCE_EXHAUSTED where it is full, INVALID_ARGUMENT where it is no
 * place to write to (read-only, say), else UNAVAILABLE. What is a HeartwoodError already stays, save that one of a full disk gets the code of it.
 * @param path the file or folder, as the message names it
 */
export function writeFailure(path: string, thrown: unknown): HeartwoodError {
  if (thrown instanceof HeartwoodError) {
    if (thrown.code === 'RESOURCE_EXHAUSTED' || !isFull(thrown.cause)) return thrown;
    return new HeartwoodError('RESOURCE_EXHAUSTED', thrown.message, { cause: thrown.cause });
  }
  const system = systemCode(thrown) ?? '';
  const code: ErrorCode = isFull(thrown)
    ? 'RESOURCE_EXHAUSTED'
    : elsewhere.has(system)
      ? 'INVALID_ARGUMENT'
      : 'UNAVAILABLE';
  return new HeartwoodError(code, `${path}: cannot be written: ${messageOf(thrown)}`, { cause: thrown });
}

/** Whether something failed because a disk, a quota or a table of the system is full. */
export function isFull(thrown: unknown): boolean {
  const code = systemCode(thrown);
  return code !== undefined && full.has(code);
}

/** The name that the system gives an error (`ENOSPC`); undefined for anything else that was thrown. */
export function systemCode(thrown: unknown): string | undefined {
  if (!(thrown instanceof Error) || thrown instanceof HeartwoodError) return undefined;
  const { code, syscall } = thrown as NodeJS.ErrnoException;
  return syscall === undefined ? undefined : code;
}
