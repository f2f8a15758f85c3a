import { monotonicMs, type Reading, type Sampling } from './source.js';
import { reasonOf } from '../sysfs.js';

/** A rail and how to read it; the read throws where it fails. */
export interface PolledRail {
  readonly name: string;
  read(): number;
}

/** Reads all rails now. The time is the middle of it: a register of an INA3221 takes half a millisecond. */
export function readRails(rails: readonly PolledRail[]): Reading {
  const values: Record<string, number> = {};
  const failures: Record<string, string> = {};
  const before = monotonicMs();
  for (const { name, read } of rails) {
    try {
      values[name] = read();
    } catch (thrown) {
      failures[name] = reasonOf(thrown);
    }
  }
  return { time: (before + monotonicMs()) / 2, values, failures };
}

/** Reads `hz` times a second, on a grid that does not drift; turns that were missed are left out rather than made up for. */
export function poll(rails: readonly PolledRail[], hz: number, sink: (reading: Reading) => void): Sampling {
  const period = 1000 / hz;
  let next = monotonicMs();
  let timer: NodeJS.Timeout;
  const turn = (): void => {
    sink(readRails(rails));
    const now = monotonicMs();
    next += period * Math.max(1, Math.ceil((now - next) / period));
    timer = setTimeout(turn, next - now);
  };
  turn();
  return { stop: () => clearTimeout(timer) };
}
