import { pino, type Logger } from 'pino';
import { LogDestination } from './log-destination.js';

export type { Logger };

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'silent';

/**
 * The log of a process: one JSON object a line, on stderr, since stdout is for results. Times are ISO 8601 and levels words, so that
 * a person can read it too. The last line before an exit is the one that matters, and is not lost; a reader who does not read holds
 * nobody up.
 */
export function createLogger(name: string, level: LogLevel = 'info'): Logger {
  const options = {
    name,
    level,
    base: { name, pid: process.pid },
    timestamp: () => `,"time":"${new Date().toISOString()}"`,
    formatters: { level: (label: string) => ({ level: label }) },
  };
  return pino(options, destination());
}

let shared: LogDestination | undefined;

/** All loggers of a process write to the one stderr. */
function destination(): LogDestination {
  if (shared) return shared;
  shared = new LogDestination();
  process.once('exit', () => shared?.end());
  return shared;
}
