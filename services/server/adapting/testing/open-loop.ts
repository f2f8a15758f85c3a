import { setTimeout as pause } from 'node:timers/promises';
import { randomFor } from '../../../../libs/data/random.js';

/** One request of a load; milliseconds from the load's begin. */
export interface Sent {
  /** When it was due; waiting to be sent counts as latency, or a slow client would hide a slow server. */
  readonly at: number;
  /** From then to its answer; Infinity for one that failed. */
  readonly latencyMs: number;
}

/**
 * Sends requests at their own times, whatever becomes of those before: arrivals are independent of each other (Poisson).
 * @param rate requests a second, so many milliseconds after the begin
 */
export async function openLoop(
  send: () => Promise<unknown>,
  rate: (elapsed: number) => number,
  durationMs: number,
  seed = 1,
): Promise<Sent[]> {
  const random = randomFor(seed);
  const gapAt = (elapsed: number) => (-Math.log(1 - (random.next() >>> 0) / 2 ** 32) / rate(elapsed)) * 1000;
  const begin = performance.now();
  const under: Promise<Sent>[] = [];
  for (let due = gapAt(0); due < durationMs; due += gapAt(due)) {
    const early = begin + due - performance.now();
    if (early > 1) await pause(early);
    const at = due;
    under.push(
      send().then(
        () => ({ at, latencyMs: performance.now() - begin - at }),
        () => ({ at, latencyMs: Infinity }),
      ),
    );
  }
  return Promise.all(under);
}

/** Requests a second that are answered when `clients` of them are always under way, over so many answers. */
export async function capacity(send: () => Promise<unknown>, clients: number, answers: number): Promise<number> {
  const begin = performance.now();
  let left = answers;
  const client = async (): Promise<void> => {
    while (left-- > 0) await send();
  };
  await Promise.all(Array.from({ length: clients }, client));
  return (answers * 1000) / (performance.now() - begin);
}

/** The 95th percentile of the latencies of what was due within [from, to), and the share within a limit. */
export function held(
  sent: readonly Sent[],
  from: number,
  to: number,
  limitMs: number,
): { readonly p95: number; readonly share: number; readonly requests: number } {
  const latencies = sent
    .flatMap(({ at, latencyMs }) => (at >= from && at < to ? [latencyMs] : []))
    .sort((a, b) => a - b);
  return {
    p95: latencies[Math.ceil(0.95 * latencies.length) - 1] ?? NaN,
    share: latencies.filter((latency) => latency <= limitMs).length / latencies.length,
    requests: latencies.length,
  };
}
