import { HeartwoodError } from '../../../libs/errors/error.js';

const firstPauseMs = 5_000;
const longestPauseMs = 300_000;
/** Loads that a worker may die of before a version is taken to be the cause. */
const mostDeaths = 3;

interface Failures {
  count: number;
  deaths: number;
  /** On the clock of performance.now(). */
  nextAt: number;
}

/**
 * When a version that could not be loaded is to be tried again: what failed may have been a file system that was away for a moment. The
 * pauses double, from seconds to minutes. One that workers die of is given up, since each death costs the others theirs.
 */
export class Attempts {
  readonly #failures = new Map<string, Failures>();

  failed(model: string, version: number, error: unknown, now = performance.now()): void {
    const before = this.#failures.get(keyOf(model, version)) ?? { count: 0, deaths: 0, nextAt: 0 };
    const died = error instanceof HeartwoodError && error.code === 'UNAVAILABLE';
    const pauseMs = Math.min(longestPauseMs, firstPauseMs * 2 ** before.count);
    this.#failures.set(keyOf(model, version), {
      count: before.count + 1,
      deaths: before.deaths + (died ? 1 : 0),
      nextAt: now + pauseMs,
    });
  }

  succeeded(model: string, version: number): void {
    const failures = this.#failures.get(keyOf(model, version));
    // Deaths stay on the record: a version may load well and kill its worker at every run.
    if (failures) [failures.count, failures.nextAt] = [0, Infinity];
  }

  forget(model: string, version: number): void {
    this.#failures.delete(keyOf(model, version));
  }

  due(model: string, version: number, now = performance.now()): boolean {
    const failures = this.#failures.get(keyOf(model, version));
    return failures !== undefined && failures.deaths < mostDeaths && now >= failures.nextAt;
  }
}

function keyOf(model: string, version: number): string {
  return `${model}/${version}`;
}
