import type { MeterSource, Reading } from './meters/source.js';
import { type EnergySample, TOTAL } from './sample.js';

/** A power that was not read for longer is not interpolated over the pause. */
export const longestPauseMs = 1000;

/** So many failures one after the other are said aloud: one is likely to be a bus that was busy. */
const patience = 3;

interface Rail {
  time: number;
  value: number;
  joules: number;
}

/**
 * Makes samples of readings: powers are integrated by the trapezoid rule, counts are differences. The total is read where all of its
 * parts are, and is a rail like any other.
 */
export class Integrator {
  readonly #rails = new Map<string, Rail>();
  readonly #failed = new Map<string, number>();

  constructor(
    private readonly source: Pick<MeterSource, 'unit' | 'total'>,
    private readonly report: (problem: string) => void = () => undefined,
  ) {}

  add({ time, values, failures }: Reading): EnergySample {
    this.#watch(values, failures);
    const watts: Record<string, number> = {};
    let since: number | undefined;
    for (const [name, value] of Object.entries(this.#withTotal(values))) {
      const last = this.#rails.get(name);
      if (last === undefined) {
        this.#rails.set(name, { time, value, joules: 0 });
        if (this.source.unit === 'watts') watts[name] = value;
        continue;
      }
      const energy = this.#between(last, time, value);
      // A current around zero may be read below it; energy does not come back.
      if (energy !== undefined) last.joules += Math.max(0, energy);
      if (this.source.unit === 'watts') watts[name] = value;
      else if (energy !== undefined && time > last.time) watts[name] = (1000 * energy) / (time - last.time);
      if (name === TOTAL && energy !== undefined) since = last.time;
      [last.time, last.value] = [time, value];
    }
    const joules = Object.fromEntries([...this.#rails].map(([name, rail]) => [name, rail.joules]));
    return { time, watts, joules, ...(since === undefined ? {} : { since }) };
  }

  /** Joules from the last reading of a rail to this one: ∫ P dt ≈ ½ (P₀ + P₁) (t₁ − t₀), or the difference of two counts. */
  #between(last: Rail, time: number, value: number): number | undefined {
    if (this.source.unit === 'joules') return value - last.value;
    const ms = time - last.time;
    return ms > longestPauseMs ? undefined : (((last.value + value) / 2) * ms) / 1000;
  }

  #withTotal(values: Reading['values']): Record<string, number> {
    const parts = this.source.total?.map((part) => values[part]);
    if (parts === undefined || parts.includes(undefined)) return { ...values };
    return { ...values, [TOTAL]: (parts as number[]).reduce((sum, part) => sum + part, 0) };
  }

  #watch(values: Reading['values'], failures: Reading['failures']): void {
    for (const name of Object.keys(values)) {
      if ((this.#failed.get(name) ?? 0) >= patience) this.report(`rail ${name} can be read again`);
      this.#failed.delete(name);
    }
    for (const [name, reason] of Object.entries(failures)) {
      const times = (this.#failed.get(name) ?? 0) + 1;
      this.#failed.set(name, times);
      if (times === patience) this.report(`rail ${name} cannot be read and is left out until it can: ${reason}`);
    }
  }
}
