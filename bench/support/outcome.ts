/** What every benchmark ends with: its bars on stdout, and the whole of it as JSON. */
import { writeFile } from 'node:fs/promises';
import { availableParallelism, cpus, totalmem } from 'node:os';

/** A number that is to stay on one side of a limit. */
export interface Bar {
  readonly name: string;
  readonly value: number;
  readonly relation: '>=' | '<=';
  readonly bar: number;
  readonly holds: boolean;
}

export function barOf(name: string, value: number, relation: Bar['relation'], bar: number): Bar {
  return { name, value, relation, bar, holds: relation === '<=' ? value <= bar : value >= bar };
}

/** One line a bar: whether it holds, and the numbers. */
export function printBars(bars: readonly Bar[]): void {
  for (const { name, value, relation, bar, holds } of bars) {
    console.log(`${holds ? 'holds ' : 'MISSES'}  ${name}: ${shortest(value)} ${relation} ${bar}`);
  }
}

/** Writes { bench, machine, rows, bars }; nothing without a file. */
export async function writeOutcome(
  file: string | undefined,
  outcome: { readonly bench: string; readonly rows: readonly unknown[]; readonly bars: readonly Bar[] },
): Promise<void> {
  if (file === undefined) return;
  const { bench, rows, bars } = outcome;
  const machine = {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: availableParallelism(),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
  };
  await writeFile(file, `${JSON.stringify({ bench, machine, rows, bars }, undefined, 2)}\n`);
}

/** Three significant digits, without an exponent where that reads well. */
function shortest(value: number): string {
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(3)));
}
