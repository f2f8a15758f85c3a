/** The codes that an error of this project carries; a subset of gRPC's, by their names there. */
export type ErrorCode =
  | 'INVALID_ARGUMENT'
  | 'NOT_FOUND'
  | 'ALREADY_EXISTS'
  | 'FAILED_PRECONDITION'
  | 'OUT_OF_RANGE'
  | 'RESOURCE_EXHAUSTED'
  | 'UNIMPLEMENTED'
  | 'UNAVAILABLE'
  | 'UNAUTHENTICATED'
  | 'PERMISSION_DENIED'
  | 'DEADLINE_EXCEEDED'
  | 'CANCELLED'
  | 'INTERNAL';

/**
 * The one error class of the project: a code for machines, a message that names the file or field and what was expected
 * for people, and the cause. The gRPC layer and the CLI map it in one place each.
 */
export class HeartwoodError extends Error {
  override readonly name = 'HeartwoodError';

  constructor(
    readonly code: ErrorCode,
    message: string,
    options?: { cause?: unknown },
  ) {
    super(message, options);
  }
}

/** Shorthand for what a caller got wrong: names the file or field and what was expected. */
export function invalid(message: string, cause?: unknown): HeartwoodError {
  return new HeartwoodError('INVALID_ARGUMENT', message, { cause });
}

/** Shorthand for a defect of our own: an invariant that does not hold. */
export function internal(message: string, cause?: unknown): HeartwoodError {
  return new HeartwoodError('INTERNAL', message, { cause });
}

/** Runs on: the text of anything that was thrown. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
