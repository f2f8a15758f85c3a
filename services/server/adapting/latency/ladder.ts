import { z } from 'zod';
import { type BudgetTable, budgetFor } from '../../../../libs/pruning/stages/budget.js';
import type { Manifest } from '../../../../libs/store/manifest.js';

/** Budgets from a version's default up to its ceiling, and the work that each is foretold to leave. */
export interface Ladder {
  /** Nats per sample, rising; the first is the default, the last the ceiling. */
  readonly budgets: readonly number[];
  /** Of a call at each, relative to the default's: what is believed until it has been measured. */
  readonly work: readonly number[];
}

/** Steps between default and ceiling. */
const steps = 8;
/** Where nothing is known of what budgets save: the least budget above 0, and the work left at the ceiling. */
const leastShare = 1e-3;
const guessedWork = 0.5;

const planSchema = z.object({
  tokens: z.object({
    table: z.object({
      rows: z.array(z.object({ flopsSaved: z.number(), kl: z.number(), thresholds: z.array(z.number()) })).min(2),
      scale: z.number().positive(),
    }),
  }),
});

/**
 * The rungs of a version: equal steps of FLOPs saved where its plan has a budget table (a step then means as much anywhere on the
 * ladder), else equal ratios of the budget. Undefined for a version without a budget, or whose ceiling is its default.
 */
export function ladderOf({ budget, plan }: Pick<Manifest, 'budget' | 'plan'>): Ladder | undefined {
  if (!budget || !(budget.ceiling > budget.default)) return undefined;
  // Thresholds of ±∞ are null in JSON; they say nothing of what a row saves.
  const parsed = planSchema.safeParse(withoutThresholds(plan));
  return (parsed.success && bySavings(budget, parsed.data.tokens.table)) || byRatio(budget);
}

type Range = NonNullable<Manifest['budget']>;

function bySavings({ default: from, ceiling: to }: Range, table: BudgetTable): Ladder | undefined {
  const [least, most] = [savedAt(table, from), savedAt(table, to)];
  if (!(most - least > 0.01)) return undefined;
  const budgets = [from];
  const work = [1];
  for (let step = 1; step <= steps; step++) {
    const saved = least + ((most - least) * step) / steps;
    const budget = step === steps ? to : Math.min(to, budgetFor(table, saved));
    // Where the table is flat two steps would be one budget.
    if (!(budget > budgets.at(-1)!)) continue;
    budgets.push(budget);
    work.push((1 - saved) / (1 - least));
  }
  return budgets.length > 1 ? { budgets, work } : undefined;
}

/** The share of the FLOPs that the table foretells at a budget: the way back of `budgetFor`, which rises with the share. */
function savedAt(table: BudgetTable, budget: number): number {
  const shares = table.rows.map(({ flopsSaved }) => flopsSaved);
  let [low, high] = [Math.min(...shares), Math.max(...shares)];
  if (budget <= budgetFor(table, low)) return low;
  for (let step = 0; step < 50; step++) {
    const middle = (low + high) / 2;
    if (budgetFor(table, middle) <= budget) low = middle;
    else high = middle;
  }
  return low;
}

function byRatio({ default: from, ceiling: to }: Range): Ladder {
  const first = Math.max(from, to * leastShare);
  const ratio = (to / first) ** (1 / steps);
  const above = Array.from({ length: steps }, (_, step) => (step === steps - 1 ? to : first * ratio ** (step + 1)));
  const work = Array.from({ length: steps + 1 }, (_, step) => 1 - ((1 - guessedWork) * step) / steps);
  return { budgets: [from, ...above], work };
}

function withoutThresholds(plan: unknown): unknown {
  const table = (plan as { tokens?: { table?: { rows?: unknown; scale?: unknown } } } | null)?.tokens?.table;
  if (!Array.isArray(table?.rows)) return undefined;
  const rows = table.rows.map((row: unknown) => ({ ...(row as object), thresholds: [0] }));
  return { tokens: { table: { rows, scale: table.scale } } };
}
