/** So long a stretch makes one measurement: shorter ones would be mostly the noise of a reading. */
const stretchMs = 100;

/** For so long after a run the power may still be on its way down (monitors average, clocks stay up): it says nothing of idling. */
const settlingMs = 100;

/** Measurements that count, the newest; with fewer than the least nothing is said. */
const remembered = 64;
const least = 3;

/**
 * What the machine takes while nothing is computed: the median of the last 64 stretches of 100 ms of metered time without a run in
 * it or shortly before. A median, because a machine that does no inference may still load a model or do somebody else's work for a
 * while. Unknown until there were three such stretches.
 */
export class IdlePower {
  readonly #measured: number[] = [];
  #next = 0;
  #joules = 0;
  #ms = 0;
  #quietSince = -Infinity;

  /** Watts; undefined while unknown. */
  get watts(): number | undefined {
    if (this.#measured.length < least) return undefined;
    const sorted = [...this.#measured].sort((a, b) => a - b);
    return sorted[Math.floor((sorted.length - 1) / 2)];
  }

  /** Something is computed at this time (milliseconds). */
  busy(time: number): void {
    this.#quietSince = Math.max(this.#quietSince, time + settlingMs);
    [this.#joules, this.#ms] = [0, 0];
  }

  /** An interval in which nothing was computed. Joules and milliseconds. */
  quiet(from: number, to: number, joules: number): void {
    if (from < this.#quietSince) return;
    this.#joules += joules;
    this.#ms += to - from;
    if (this.#ms < stretchMs) return;
    this.#measured[this.#next] = (1000 * this.#joules) / this.#ms;
    this.#next = (this.#next + 1) % remembered;
    [this.#joules, this.#ms] = [0, 0];
  }
}
