import { type Logger, pino } from 'pino';

export interface KeptLog {
  readonly logger: Logger;
  /** Every line so far. */
  readonly lines: readonly { readonly level: number; readonly msg: string; readonly reason?: string }[];
}

/** A log that a test can read. */
export function keptLog(): KeptLog {
  const lines: KeptLog['lines'][number][] = [];
  const write = (text: string): void => void lines.push(JSON.parse(text) as KeptLog['lines'][number]);
  return { logger: pino({ level: 'debug' }, { write }), lines };
}
