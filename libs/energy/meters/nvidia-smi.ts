/** Discrete NVIDIA GPUs, by the driver's own nvidia-smi (Jetson's GPU is not among those that it measures). */
import { execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { monotonicMs, type MeterSource, type Probed, type Reading, type Sampling } from './source.js';

/** The newer drivers' power of this moment; `power.draw` is the mean of a second on recent GPUs, and all that older drivers have. */
const fields = ['power.draw.instant', 'power.draw'];

/** After this long a nvidia-smi that ended is started again. */
const restartMs = 1000;

/** Looks for nvidia-smi: in `usr/bin` below the root, or on the path where the root is `/`. Rails are gpu0, gpu1, …; they add up. */
export async function probeNvidiaSmi(root: string): Promise<Probed> {
  const below = join(root, 'usr/bin/nvidia-smi');
  const command = existsSync(below) ? below : root === '/' ? 'nvidia-smi' : undefined;
  if (command === undefined) return { absent: `${below}: no such program` };
  let said = '';
  for (const field of fields) {
    const { output, failure } = await ask(command, query(field));
    const lines = output.split('\n').filter((line) => line.trim() !== '');
    const powers = lines.map(powerOf).filter((power) => power !== undefined);
    const readable = powers.filter(({ watts }) => watts !== undefined);
    if (readable.length > 0) return { source: sourceOf(command, field, powers) };
    said = failure ?? `it says ${JSON.stringify(output.trim().split('\n')[0]?.slice(0, 100) ?? '')} for ${field}`;
  }
  return { absent: `nvidia-smi: ${said}` };
}

type Power = { readonly name: string; readonly watts: number | undefined };

const query = (field: string): string[] => [`--query-gpu=index,${field}`, '--format=csv,noheader,nounits'];

/** `0, 65.32` or `0, [N/A]`; undefined for what is neither. */
function powerOf(line: string): Power | undefined {
  const [, index, value] = /^\s*(\d+)\s*,\s*(.+?)\s*$/.exec(line) ?? [];
  if (index === undefined) return undefined;
  return { name: `gpu${index}`, watts: /^\d+(\.\d+)?$/.test(value!) ? Number(value) : undefined };
}

function sourceOf(command: string, field: string, powers: readonly Power[]): MeterSource {
  const rails = powers.filter(({ watts }) => watts !== undefined).map(({ name }) => name);
  const silent = powers.filter(({ watts }) => watts === undefined).map(({ name }) => name);
  return {
    unit: 'watts',
    rails,
    total: rails,
    problems: silent.map((name) => `rail ${name} is left out: its driver does not tell its power`),
    start: (hz, sink) => follow(command, [...query(field), `--loop-ms=${Math.round(1000 / hz)}`], rails, sink),
  };
}

/** Keeps one nvidia-smi running and makes a reading of each of its rounds. */
function follow(
  command: string,
  args: readonly string[],
  rails: readonly string[],
  sink: (reading: Reading) => void,
): Sampling {
  let stopped = false;
  let timer: NodeJS.Timeout | undefined;
  let stop = (): void => undefined;
  const run = (): void => {
    let values: Record<string, number> = {};
    let failures: Record<string, string> = {};
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'ignore'] });
    stop = () => void child.kill();
    createInterface({ input: child.stdout }).on('line', (line) => {
      const power = powerOf(line);
      if (power === undefined || !rails.includes(power.name)) return;
      if (power.watts === undefined) failures[power.name] = 'nvidia-smi tells none';
      else values[power.name] = power.watts;
      if (power.name !== rails.at(-1)) return;
      sink({ time: monotonicMs(), values, failures });
      [values, failures] = [{}, {}];
    });
    let ended = false;
    const end = (reason: string): void => {
      if (ended || stopped) return;
      ended = true;
      sink({ time: monotonicMs(), values: {}, failures: Object.fromEntries(rails.map((rail) => [rail, reason])) });
      timer = setTimeout(run, restartMs);
    };
    child.on('error', (error) => end(error.message));
    child.on('close', (code) => end(`nvidia-smi exited with ${code ?? 'a signal'}`));
  };
  run();
  return {
    stop: () => {
      stopped = true;
      clearTimeout(timer);
      stop();
    },
  };
}

/** One answer of the program; it must come within ten seconds (the driver may have to wake up). */
function ask(command: string, args: readonly string[]): Promise<{ output: string; failure: string | undefined }> {
  return new Promise((resolve) => {
    execFile(command, args, { timeout: 10_000 }, (error, stdout) => {
      const code = error?.code;
      const failure = code === 'ENOENT' ? 'not installed' : error ? `it failed (${code ?? 'time'})` : undefined;
      resolve({ output: stdout, failure });
    });
  });
}
