/** What the table of meters is made of. All of this runs in the sampling thread, so a read may take its time. */

/** One look at a meter. */
export interface Reading {
  /** Milliseconds of CLOCK_MONOTONIC, as process.hrtime counts them. */
  readonly time: number;
  /** Of the rails that could be read, in the meter's unit. */
  readonly values: Readonly<Record<string, number>>;
  /** Why the others could not. */
  readonly failures: Readonly<Record<string, string>>;
}

/** A meter that was found. */
export interface MeterSource {
  /** `watts`: a power now, to be integrated. `joules`: a count that never falls, its beginning anywhere. */
  readonly unit: 'watts' | 'joules';
  readonly rails: readonly string[];
  /** The rails whose sum is what the machine takes; undefined where that is not known or one of them cannot be read. */
  readonly total: readonly string[] | undefined;
  /** What was left out, and why, a line each. */
  readonly problems: readonly string[];
  /** Reads `hz` times a second until it is stopped. */
  start(hz: number, sink: (reading: Reading) => void): Sampling;
}

export interface Sampling {
  stop(): void;
  /** Reads once more, now; absent where a read is slow or not to be had out of turn. */
  readonly read?: () => void;
}

/** A meter, or why there is none. */
export type Probed = { readonly source: MeterSource } | { readonly absent: string };

/** Looks for one kind of meter below a root. Does not throw. */
export type Probe = (root: string) => Promise<Probed>;

/** Milliseconds of CLOCK_MONOTONIC, the same in every thread and process of the machine. */
export const monotonicMs = (): number => Number(process.hrtime.bigint()) / 1e6;
