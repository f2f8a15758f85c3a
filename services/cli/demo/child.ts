import { spawn, type ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { HeartwoodError } from '../../../libs/errors/error.js';
import { withHugePages } from '../../../libs/runtime/huge-pages.js';
import { withoutTransport } from '../transport-options.js';

/** A service of this project in a process of its own. */
export interface Child {
  readonly grpcPort: number;
  readonly metricsPort: number;
  /** Settles when the process has ended by itself: with a line that says how. */
  readonly ended: Promise<string>;
  /** SIGTERM, and SIGKILL for one that does not end within a minute. */
  stop(): Promise<void>;
}

const main = fileURLToPath(new URL('../main.js', import.meta.url));
const patienceMs = 60_000;

/**
 * Starts `heartwood COMMAND …` and resolves at the `ready` line of its log. Throws UNAVAILABLE with the log's last complaint when
 * it ends before that.
 */
export async function startChild(command: string, options: readonly string[], signal: AbortSignal): Promise<Child> {
  signal.throwIfAborted();
  // A group of its own: a Ctrl-C in the terminal reaches this process alone, which then ends the children in order.
  const child = spawn(process.execPath, [main, command, ...options], {
    stdio: ['ignore', 'ignore', 'pipe'],
    detached: true,
    env: withHugePages(withoutTransport(process.env)),
  });
  const killWithUs = () => void child.kill('SIGKILL');
  process.once('exit', killWithUs);
  const complaints: string[] = [];
  const exited = new Promise<string>((resolve) => {
    child.once('exit', (code, by) => {
      process.off('exit', killWithUs);
      resolve(
        `${command} ended ${by ? `by ${by}` : `with code ${code}`}${complaints.length > 0 ? `: ${complaints.at(-1)}` : ''}`,
      );
    });
  });
  const ready = readLog(child, complaints);
  const stop = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGTERM');
    const late = setTimeout(() => child.kill('SIGKILL'), patienceMs);
    await exited;
    clearTimeout(late);
  };
  const aborted = new Promise<undefined>((resolve) =>
    signal.addEventListener('abort', () => resolve(undefined), { once: true }),
  );
  const first = await Promise.race([ready, exited, aborted]);
  if (typeof first === 'object') return { ...first, ended: exited, stop };
  await stop();
  signal.throwIfAborted();
  throw new HeartwoodError('UNAVAILABLE', await exited);
}

/** Reads the JSON log on stderr: the ports of the ready line; what is no JSON, or an error, is kept as a complaint. */
function readLog(child: ChildProcess, complaints: string[]): Promise<{ grpcPort: number; metricsPort: number }> {
  return new Promise((resolve) => {
    createInterface({ input: child.stderr! }).on('line', (line) => {
      const entry = parse(line);
      if (entry === undefined) complaints.push(line);
      else if (entry.event === 'ready')
        resolve({ grpcPort: Number(entry.grpcPort), metricsPort: Number(entry.metricsPort) });
      else if (entry.level === 'error' || entry.level === 'fatal') complaints.push(String(entry.msg));
    });
  });
}

function parse(line: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}
