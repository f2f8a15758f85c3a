import type { ServedVersion } from '../../catalog/served-version.js';
import type { SampleDivergence } from './divergence.js';
import type { WatchedSample } from './loss-watch.js';

/** What a version and version 1 came to on the same call. */
export interface ShadowComparison {
  /** Of each sample; of a text, of each token. */
  readonly divergences: readonly SampleDivergence[];
  /** What ran at the default budget, by samples that are independent of each other: a text is one. */
  readonly watched: readonly WatchedSample[];
  /** Milliseconds of computing it, where each did so alone. */
  readonly times?: { readonly servedMs: number; readonly firstMs: number };
}

/** Whether it ran at the budget that the version's promise is of; the model holds budgets in float32. */
export function atDefault({ manifest }: ServedVersion, budget: number | undefined): boolean {
  if (manifest.budget === null) return true;
  return budget !== undefined && Math.fround(budget) === Math.fround(manifest.budget.default);
}
