import { randomFor } from '../../../../libs/data/random.js';
import type { PromptStage } from '../../../../libs/pruning/prompt/parameters.js';
import type { BudgetTable } from '../../../../libs/pruning/stages/budget.js';
import { smallShape } from './small-engine.js';

/** Probes of random numbers: what matters here is that tokens are dropped, not which. */
const stages: PromptStage[] = [1, 2].map((block) => {
  const random = randomFor(block);
  const numbers = (count: number) => Float32Array.from({ length: count }, () => random.next() / 2 ** 31);
  const probe = { matrix: numbers(4 * smallShape.hidden), bias: numbers(2), output: numbers(2), outputBias: 0.3 };
  return { block, recent: 2, probe };
});
/** From nothing at 0 to a good part of the prompt at 1. */
const table: BudgetTable = {
  scale: 1,
  rows: [
    { flopsSaved: 0, kl: 0.001, thresholds: [-3, -3] },
    { flopsSaved: 0.5, kl: 1, thresholds: [0.5, 0.5] },
  ],
};

export const dropping = { stages, table };
