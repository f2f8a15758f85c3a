import type { ServedClassifier } from '../catalog/served-version.js';
import type { InferenceResult } from '../scheduling/scheduler.js';
import type { Feeds } from './feeds.js';

/** Picks calls that are to be run a second time once they are answered. */
export interface Shadow {
  /** Asked of every call before its feeds are given away; undefined: not this one. What is kept of the feeds is copied here. */
  pick(served: ServedClassifier, feeds: Feeds): ShadowedCall | undefined;
}

/** A call that was picked. */
export interface ShadowedCall {
  /** Outputs that have to be fetched, whether the caller asked for them or not. */
  readonly outputs: readonly string[];
  /** The call was answered with this; its answer is handed over in the same turn of the event loop. */
  answered(result: InferenceResult): void;
  /** The call came to no answer. */
  failed(): void;
}

/** None is shadowed. */
export const noShadow: Shadow = { pick: () => undefined };
