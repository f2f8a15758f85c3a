/** PyTorch in a child process that times one piece of work a request, so that both sides can take turns. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

export interface TorchTiming {
  readonly ms: number;
  /** Greatest resident set of the process so far. */
  readonly peakMiB: number;
}

export interface TorchProcess {
  readonly version: string;
  /** The pieces of work that it knows, with the probes of each. */
  readonly probes: Readonly<Record<string, number>>;
  time(work: string): Promise<TorchTiming>;
  close(): Promise<void>;
}

/** Starts a script that answers its first line by itself and one for every line it is given; undefined where it does not start. */
export async function startTorch(script: string, args: readonly string[]): Promise<TorchProcess | undefined> {
  const child = spawn('python3', [script, ...args], { stdio: ['pipe', 'pipe', 'ignore'] });
  const ended = new Promise<void>((resolve) => {
    child.once('error', () => resolve());
    child.once('close', () => resolve());
  });
  child.stdin.on('error', () => undefined);
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async (): Promise<unknown> => {
    const line = await lines.next();
    return line.done ? undefined : JSON.parse(line.value);
  };
  const hello = (await next()) as { torch: string; probes: Record<string, number> } | undefined;
  if (!hello) {
    await ended;
    return undefined;
  }
  return {
    version: hello.torch,
    probes: hello.probes,
    async time(work) {
      if (!child.stdin.write(`${work}\n`)) await once(child.stdin, 'drain');
      const answer = (await next()) as TorchTiming | undefined;
      if (!answer) throw new Error(`PyTorch ended before it had done: ${work}`);
      return answer;
    },
    async close() {
      child.stdin.end();
      await ended;
    },
  };
}
