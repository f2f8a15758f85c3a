import { randomFor } from '../../../../libs/data/random.js';
import type { PromptStage } from '../../../../libs/pruning/prompt/parameters.js';
import type { BudgetTable } from '../../../../libs/pruning/stages/budget.js';
import { smallShape } from './small-engine.js';

/** Stages that drop prompt tokens, and how many at which budget. */
export interface DroppingStages {
  readonly stages: readonly PromptStage[];
  readonly table: BudgetTable;
}

/** Stages before these blocks, with probes of random numbers: what matters here is that tokens are dropped, not which. */
export function droppingAt(hidden: number, blocks: readonly number[]): DroppingStages {
  const stages = blocks.map((block): PromptStage => {
    const random = randomFor(block);
    const numbers = (count: number) => Float32Array.from({ length: count }, () => random.next() / 2 ** 31);
    const probe = { matrix: numbers(4 * hidden), bias: numbers(2), output: numbers(2), outputBias: 0.3 };
    return { block, recent: 2, probe };
  });
  // From nothing at 0 to a good part of the prompt at 1.
  const all = (threshold: number) => blocks.map(() => threshold);
  const rows = [
    { flopsSaved: 0, kl: 0.001, thresholds: all(-3) },
    { flopsSaved: 0.5, kl: 1, thresholds: all(0.5) },
  ];
  return { stages, table: { scale: 1, rows } };
}

export const dropping = droppingAt(smallShape.hidden, [1, 2]);
