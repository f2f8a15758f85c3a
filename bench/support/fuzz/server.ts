/** `heartwood serve` as a process that may be hurt. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

export interface FuzzedServer {
  readonly port: number;
  readonly pid: number;
  /** Lines of its log at level error, and those that are no JSON: what a process says that dies. */
  readonly complaints: string[];
  /** Lines about a worker that was replaced. */
  readonly restarts: string[];
  alive(): boolean;
  residentMiB(): Promise<number>;
  /** SIGTERM; the exit code, null for one that was killed. */
  stop(): Promise<number | null>;
  kill(): void;
}

const main = fileURLToPath(new URL('../../../services/cli/main.js', import.meta.url));

/** Starts a server over a repository and resolves when it is ready. Throws with its complaints when it ends before that. */
export async function startServer(repository: string, flags: readonly string[]): Promise<FuzzedServer> {
  const fixed = ['--repository', repository, '--host', '127.0.0.1', '--port', '0', '--metrics-port', '0'];
  const child = spawn(process.execPath, [main, 'serve', ...fixed, ...flags], { stdio: ['ignore', 'ignore', 'pipe'] });
  const killWithUs = (): void => void child.kill('SIGKILL');
  process.once('exit', killWithUs);
  const ended = once(child, 'exit').then(([code]) => {
    process.off('exit', killWithUs);
    return code as number | null;
  });
  const complaints: string[] = [];
  const restarts: string[] = [];
  const port = await new Promise<number>((resolve, reject) => {
    createInterface({ input: child.stderr }).on('line', (line) => {
      const entry = entryOf(line);
      if (entry['event'] === 'ready') resolve(Number(entry['grpcPort']));
      else if (/worker/.test(String(entry['msg'])) && 'reason' in entry) restarts.push(line);
      else if (entry['level'] === undefined || entry['err'] !== undefined) complaints.push(line);
    });
    void ended.then((code) => reject(new Error(`the server ended with ${code}: ${complaints.join('\n')}`)));
  });
  const pid = child.pid!;
  return {
    port,
    pid,
    complaints,
    restarts,
    alive: () => running(child),
    residentMiB: async () => {
      const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
      return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1] ?? NaN) / 1024;
    },
    stop: () => {
      child.kill('SIGTERM');
      return ended;
    },
    kill: killWithUs,
  };
}

function running({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode === null && signalCode === null;
}

function entryOf(line: string): Record<string, unknown> {
  try {
    return JSON.parse(line) as Record<string, unknown>;
  } catch {
    return {};
  }
}
