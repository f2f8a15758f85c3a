import type { MeterChoice, MeterName } from './meters/index.js';

/** The rail that stands for the whole machine: the sum of those that add up to it. */
export const TOTAL = 'total';

/** What one reading of a meter came to. Rails that were not read (for now, or not often enough) are absent, not zero. */
export interface EnergySample {
  /** Milliseconds on the clock of performance.now() of the thread that opened the meter. */
  readonly time: number;
  /** Watts by rail: now (power monitors), or since the reading before (counters). */
  readonly watts: Readonly<Record<string, number>>;
  /** Joules by rail since the opening; never fall. */
  readonly joules: Readonly<Record<string, number>>;
  /**
   * When the interval began whose energy this sample added to the total; absent where it added none: at a first reading, and after a
   * pause too long to be bridged, whose energy nobody knows.
   */
  readonly since?: number;
}

/** What the sampling thread is told when it starts. */
export interface SamplerSettings {
  readonly choice: MeterChoice;
  readonly sampleHz: number;
  readonly root: string;
  /** CLOCK_MONOTONIC less performance.now() of the thread that opens the meter, milliseconds. */
  readonly clockOffset: number;
}

/** `read`: once more, now, where that is cheap. `close`: the end. */
export type SamplerRequest = 'read' | 'close';

export type SamplerMessage =
  | { readonly kind: 'absent'; readonly reasons: readonly string[] }
  | {
      readonly kind: 'opened';
      readonly name: MeterName;
      readonly rails: readonly string[];
      readonly total: boolean;
      readonly problems: readonly string[];
    }
  | { readonly kind: 'sample'; readonly sample: EnergySample }
  | { readonly kind: 'problem'; readonly message: string };
