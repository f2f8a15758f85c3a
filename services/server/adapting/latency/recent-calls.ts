/** A call that has ended, as the controller sees it. Times are on one clock, milliseconds. */
export interface EndedCall {
  readonly arrivedAt: number;
  readonly endedAt: number;
  /** From its arrival to its answer; Infinity for one that was refused or came too late, which no objective counts as met. */
  readonly totalMs: number;
  /** The rung whose budget it ran at; undefined for a call that named another budget of its own, or did not run. */
  readonly rung: number | undefined;
  /** Its share of the run, and the run; absent when it did not run. */
  readonly cost?: { readonly workMs: number; readonly runMs: number };
}

/** Fewer calls say nothing of a 95th percentile. */
export const leastCalls = 20;
/** More are not kept: they tell 95 % to a percent. */
const mostCalls = 500;

/** Where few calls come, those of a longer time are looked at, this many times the span. */
const patience = 10;

/**
 * The latest calls: those of the last `spanMs`, `mostCalls` at most; where fewer than {@link leastCalls} came in it, as many of those
 * before as are not much older.
 */
export function recent(
  calls: readonly EndedCall[],
  more: readonly EndedCall[],
  now: number,
  spanMs: number,
): EndedCall[] {
  const all = [...calls, ...more].slice(-mostCalls);
  const since = (time: number): number => {
    const first = all.findIndex(({ endedAt }) => endedAt >= time);
    return first < 0 ? all.length : first;
  };
  return all.slice(Math.max(since(now - patience * spanMs), Math.min(since(now - spanMs), all.length - leastCalls)));
}

/** The 95th percentile of the latencies of the calls that came at `since` or later, milliseconds; undefined for too few. */
export function p95Since(calls: readonly EndedCall[], since: number): number | undefined {
  const counted = calls.filter(({ arrivedAt }) => arrivedAt >= since);
  if (counted.length < leastCalls) return undefined;
  const sorted = Float64Array.from(counted, ({ totalMs }) => totalMs).sort();
  return sorted[Math.ceil(0.95 * sorted.length) - 1];
}
