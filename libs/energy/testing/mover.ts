/**
 * Entry of a process that moves the values of a board along their curves, in place, until it is killed. It is asked by lines of JSON:
 * `{"extra": W}` has the first rail take that much beside its curve from then on; `{"moves": [from, to]}` is answered by the times
 * between which the values have stood still.
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
const moves: number[] = [];

const move = (): void => {
  const now = monotonicMs();
  for (const [at, { curve, millivolts, write }] of powers.entries())
    write((1e6 * (wattsAt(curve, now - begin) + (at === 0 ? extra : 0))) / millivolts);
  for (const { curve, start, range, write } of counters) write((start + 1e6 * joulesOf(curve, 0, now - begin)) % range);
  moves.push(now);
};

createInterface({ input: process.stdin }).on('line', (line) => {
  const asked = JSON.parse(line) as { extra: number } | { moves: [from: number, to: number] };
  if ('extra' in asked) {
    extra = asked.extra;
    return;
  }
  // A pause that is not over yet is over with this.
  move();
  const [from, to] = asked.moves;
  const first = moves.findLastIndex((time) => time <= from);
  const last = moves.findIndex((time) => time > to);
  process.stdout.write(`${JSON.stringify(moves.slice(Math.max(0, first), last < 0 ? undefined : last + 1))}\n`);
});
move();
process.stdout.write('moving\n');
setInterval(move, 2);
