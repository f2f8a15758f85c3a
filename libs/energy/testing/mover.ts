/**
 * Entry of a process that moves the values of a board along their curves, in place, until it is killed. A number on its input is watts
 * that the first rail takes beside its curve from then on.
 */
import { openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { monotonicMs } from '../meters/source.js';
import type { Board } from './boards.js';
import { joulesOf, wattsAt } from './curve.js';

const { board, begin } = JSON.parse(process.argv[2]!) as { board: Board; begin: number };

/** What it writes is always as long, so that a reader finds the number before or this one, never half of one. */
const cell = (file: string, digits: number) => {
  const descriptor = openSync(file, 'r+');
  return (value: number) => writeSync(descriptor, `${String(Math.round(value)).padStart(digits, '0')}\n`, 0);
};

const powers = board.powers.map((rail) => ({
  ...rail,
  write: cell(join(rail.folder, `curr${rail.channel}_input`), 5),
}));
const counters = board.counters.map((rail) => ({ ...rail, write: cell(join(rail.folder, 'energy_uj'), 12) }));

let extra = 0;
createInterface({ input: process.stdin }).on('line', (line) => (extra = Number(line)));

const move = (): void => {
  for (const [at, { curve, millivolts, write }] of powers.entries())
    write((1e6 * (wattsAt(curve, monotonicMs() - begin) + (at === 0 ? extra : 0))) / millivolts);
  for (const { curve, start, range, write } of counters)
    write((start + 1e6 * joulesOf(curve, 0, monotonicMs() - begin)) % range);
};
move();
process.stdout.write('moving\n');
setInterval(move, 2);
