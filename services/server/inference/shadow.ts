import type { ServedClassifier, ServedLanguageModel } from '../catalog/served-version.js';
import type { ForcedText } from '../generation/teacher-forcing.js';
import type { InferenceResult } from '../scheduling/scheduler.js';
import type { Feeds } from './feeds.js';

/** Picks calls that are to be run a second time once they are answered. */
export interface Shadow {
  /** Asked of every call before its feeds are given away; undefined: not this one. What is kept of the feeds is copied here. */
  pick(served: ServedClassifier, feeds: Feeds): ShadowedCall | undefined;
  /** Asked of every text before it is generated; undefined: not this one, and its tokens need not be kept. */
  pickText(served: ServedLanguageModel): ShadowedText | undefined;
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

/** A text that was picked: it costs nothing until it has come to its end, and nothing at all where it comes to none. */
export interface ShadowedText {
  /** This was generated, of that prompt and at that budget, and all of it has been handed over. */
  answered(text: ForcedText): void;
}

/** None is shadowed. */
export const noShadow: Shadow = { pick: () => undefined, pickText: () => undefined };
