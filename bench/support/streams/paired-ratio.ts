/** Two things measured in short turns, so that what else the machine does in the meantime strikes both. */
import { quantileOfSorted } from '../../../libs/pruning/statistics/quantiles.js';

export interface PairedRatio {
  /** The median over the pairs, of b over a. */
  readonly ratio: number;
  /** Around it at least 95 of 100 times, whatever the ratios are distributed like; the extremes where there are too few pairs. */
  readonly low: number;
  readonly high: number;
  readonly ratios: readonly number[];
}

/** Measures in the order a b, b a, a b, …: what drifts makes as many pairs too large as too small. The first pair warms up. */
export async function inPairs<A, B>(
  pairs: number,
  a: () => Promise<A>,
  b: () => Promise<B>,
): Promise<{ readonly a: A; readonly b: B }[]> {
  const taken: { a: A; b: B }[] = [];
  for (let pair = 0; pair <= pairs; pair++) {
    if (pair % 2 === 0) taken.push({ a: await a(), b: await b() });
    else {
      const second = await b();
      taken.push({ a: await a(), b: second });
    }
  }
  return taken.slice(1);
}

/** The median, and the order statistics around it: how many of n fall below a median is binomial. */
export function pairedRatio(ratios: readonly number[]): PairedRatio {
  const sorted = [...ratios].sort((x, y) => x - y);
  const n = sorted.length;
  // The largest rank whose tail holds no more than 2.5 of 100.
  let rank = 0;
  for (let tail = 0.5 ** n, each = tail, k = 0; tail <= 0.025; k++) {
    rank = k + 1;
    each = (each * (n - k)) / (k + 1);
    tail += each;
  }
  const at = Math.max(0, rank - 1);
  return { ratio: quantileOfSorted(sorted, 0.5), low: sorted[at]!, high: sorted[n - 1 - at]!, ratios };
}
