import { permutation, randomFor } from '../../../libs/data/random.js';

/** One round: every version answers the same requests, one version after the other. */
export interface Round {
  /** [request][sample]. */
  readonly requests: readonly (readonly number[])[];
  /** The lanes in the order of their turns. */
  readonly order: readonly number[];
}

export interface ScheduleOptions {
  readonly samples: number;
  readonly batch: number;
  readonly lanes: number;
  readonly seed: number;
  /** Requests that a version answers before the next has its turn, roughly: rounds are of equal length. */
  readonly requestsInRound: number;
}

/**
 * The rounds of a comparison. What slows the machine for a while slows all versions of a round alike. In every run of as many rounds as
 * there are versions each one is once the first, once the second and so on (a Latin square, its first row drawn by seed), so none always
 * follows the same idle time, cache or heat. Samples that do not fill a last batch are left out.
 */
export function roundsOf({ samples, batch, lanes, seed, requestsInRound }: ScheduleOptions): Round[] {
  const requests = Math.floor(samples / batch);
  const count = Math.max(1, Math.floor(requests / requestsInRound));
  let first: Int32Array = new Int32Array(0);
  return Array.from({ length: count }, (_, round) => {
    if (round % lanes === 0) first = permutation(lanes, randomFor(seed, round, lanes));
    const from = Math.floor((round * requests) / count);
    const to = Math.floor(((round + 1) * requests) / count);
    return {
      requests: Array.from({ length: to - from }, (_, request) =>
        Array.from({ length: batch }, (_, sample) => (from + request) * batch + sample),
      ),
      order: Array.from(first, (_, turn) => first[(turn + round) % lanes]!),
    };
  });
}

/** A meter that is read by sampling tells turns apart that are long beside its samples. */
const leastMeteredMs = 200;
/** Rounds that intervals want, as far as there are requests for them. */
const wantedRounds = 16;
const fewestRounds = 8;

/**
 * Requests of a version in a row: one where they come one by one; where several are under way, enough that the beginning and the end, when
 * fewer are, weigh little, but no more than leaves rounds to take intervals from; and with a meter enough that it can follow.
 *
 * @param requestMs of the fastest version, by its warm-up
 */
export function requestsInRound(options: {
  readonly requests: number;
  readonly concurrency: number;
  readonly metered: boolean;
  readonly requestMs: number;
}): number {
  const { requests, concurrency, metered, requestMs } = options;
  const several = Math.min(4 * concurrency, Math.floor(requests / wantedRounds));
  const usual = concurrency === 1 ? 1 : Math.max(concurrency, several);
  if (!metered) return usual;
  const long = Math.ceil((leastMeteredMs * concurrency) / Math.max(requestMs, 1e-3));
  return Math.max(usual, Math.min(long, Math.floor(requests / fewestRounds)));
}
