import { HeartwoodError, messageOf } from '../../errors/error.js';

/** Runs statements: a database, or a transaction of one. */
export interface Executor {
  /**
   * Runs one statement with `$1`-style parameters, or, without any, several separated by semicolons.
   * @returns the rows of the (last) statement
   * @throws HeartwoodError UNAVAILABLE when the database cannot be reached; otherwise the driver's own error
   */
  query<Row = Record<string, unknown>>(text: string, values?: readonly unknown[]): Promise<Row[]>;
}

/** A PostgreSQL database, embedded in this process or a server. */
export interface Database extends Executor {
  /** An embedded one belongs to this process alone. */
  readonly embedded: boolean;
  /** Runs `work` in a transaction, which is rolled back when it throws. */
  transaction<T>(work: (executor: Executor) => Promise<T>): Promise<T>;
  close(): Promise<void>;
}

/** What pg-boss asks of its `db` option, over any executor. */
export function asBossDatabase(executor: Executor): {
  executeSql(text: string, values?: unknown[]): Promise<{ rows: unknown[] }>;
} {
  return { executeSql: async (text, values) => ({ rows: await executor.query(text, values) }) };
}

const CONNECTION_CODES = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'ENOTFOUND',
  'ETIMEDOUT',
  'EPIPE',
  'EHOSTUNREACH',
  'ENOENT',
  'EAI_AGAIN',
]);

/**
 * Whether an error of the pg driver means that the server could not be reached, sent us away (classes 08, 28, 3D, 53, 57P), or took longer than
 * either side would wait (57014, 25P03).
 */
export function isConnectionFailure(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const code = String((error as NodeJS.ErrnoException).code ?? '');
  if (CONNECTION_CODES.has(code) || /^(08|28|3D|53|57P|57014|25P03)/.test(code)) return true;
  return /Connection terminated|timeout exceeded when trying to connect|Query read timeout|connection error/.test(
    error.message,
  );
}

/** Whether an error is that of a database out of reach, which may be back in a moment. */
export function isUnavailable(error: unknown): boolean {
  return error instanceof HeartwoodError && error.code === 'UNAVAILABLE';
}

/** The one line that stands for a database out of reach; never the URL, which may hold a password. */
export function unavailable(where: string, cause: unknown): HeartwoodError {
  // Node reports a host with several addresses that all refused as one error without a text of its own.
  const reason = messageOf(cause) || (cause instanceof AggregateError ? messageOf(cause.errors[0]) : 'no connection');
  return new HeartwoodError('UNAVAILABLE', `database ${where}: ${reason.split('\n')[0]}`, { cause });
}
