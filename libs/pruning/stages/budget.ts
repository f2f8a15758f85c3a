import { invalid } from '../../errors/error.js';
import type { GraphBuilder } from '../../onnx/builder.js';
import type { Value } from '../../onnx/ir.js';
import { add, greater, log, matMul, max, min, reshape, split, sub, where } from '../../onnx/ops/index.js';

/**
 * From a loss budget to the stages' thresholds: piecewise linear in log ε between the rows of a measured table. One function, in
 * TypeScript for the planner and as graph for the served model.
 */

export interface BudgetRow {
  /** Measured fraction of the dense model's FLOPs that these thresholds save. */
  readonly flopsSaved: number;
  /** Measured mean loss, nats. */
  readonly kl: number;
  /** One for each matching of each stage, in order. */
  readonly thresholds: readonly number[];
}

export interface BudgetTable {
  readonly rows: readonly BudgetRow[];
  /** Times the budget before it is looked up: the ratio by which certification found the table too bold (below 1) or too timid. */
  readonly scale: number;
}

/** Losses below it are told apart by nothing, nats. */
const leastLoss = 1e-9;
/** Log units by which "nothing" (−∞) lies below the least finite threshold of its column, and "everything" above the greatest. */
const beyond = 8;
/** What stands for ±∞ in a column without a finite threshold, and for the missing bound of a clip: beyond any cost or logarithm. */
const farthest = 1e4;

/** Losses that differ by less than this, in log units, are the same: float32 would not tell them apart. */
const leastStep = 1e-4;

/** θ(ε) = origin + min(log ε − κ_0, 0) · below + Σ_k clip(log ε − κ_k, 0, width_k) · slope_k; as rows of one product: */
interface Curve {
  /** κ_0, κ_0, κ_1, … without the last. */
  readonly knots: readonly number[];
  /** 0, then κ_{k+1} − κ_k. */
  readonly widths: readonly number[];
  /** [knots][thresholds]: below, then the slopes. */
  readonly slopes: readonly (readonly number[])[];
  /** Thresholds of the first row. */
  readonly origin: readonly number[];
}

/**
 * The table made monotone: losses and thresholds never fall from row to row (running maxima, rows by FLOPs saved); of rows with the
 * same loss the boldest counts.
 * Throws INVALID_ARGUMENT for a table without rows, with NaN, or with rows of different lengths.
 */
function curveOf({ rows, scale }: BudgetTable): Curve {
  const count = rows[0]?.thresholds.length;
  if (count === undefined) throw invalid('the budget table has no rows');
  if (!(scale > 0 && scale < Infinity))
    throw invalid(`the budget table's scale is ${scale}, expected a positive number`);
  const knots: number[] = [];
  const levels: number[][] = [];
  const columns = finiteColumns(rows, count);
  for (const [r, { kl }] of [...rows.entries()].sort(([, a], [, b]) => a.flopsSaved - b.flopsSaved)) {
    if (!Number.isFinite(kl)) throw invalid(`row ${r} of the budget table has the loss ${kl}, expected a number`);
    const loss = Math.max(Math.log(Math.max(kl, leastLoss)), knots.at(-1) ?? -Infinity);
    const level = columns.map((column, c) => Math.max(column[r]!, levels.at(-1)?.[c] ?? -Infinity));
    if (loss - (knots.at(-1) ?? -Infinity) < leastStep) levels[levels.length - 1] = level;
    else {
      knots.push(loss);
      levels.push(level);
    }
  }
  const origin = levels[0]!;
  const widths = knots.slice(1).map((knot, k) => knot - knots[k]!);
  const slopes = widths.map((width, k) => levels[k]!.map((level, c) => (levels[k + 1]![c]! - level) / width));
  // A threshold that does not move between the first rows must still fall with the budget below them.
  const below = origin.map((_, c) => slopes[0]?.[c] || 1);
  return { knots: [knots[0]!, ...knots.slice(0, -1)], widths: [0, ...widths], slopes: [below, ...slopes], origin };
}

/** The thresholds column by column, −∞ and +∞ replaced by numbers that lie well beyond the finite ones. */
function finiteColumns(rows: readonly BudgetRow[], count: number): number[][] {
  return Array.from({ length: count }, (_, c) => {
    const column = rows.map(({ thresholds }, r) => {
      const value = thresholds[c];
      if (thresholds.length !== count || value === undefined || Number.isNaN(value)) {
        throw invalid(
          `row ${r} of the budget table has the thresholds [${thresholds.join(', ')}], expected ${count} numbers`,
        );
      }
      return value;
    });
    const finite = column.filter(Number.isFinite);
    const least = finite.length > 0 ? Math.min(...finite) - beyond : -farthest;
    const greatest = finite.length > 0 ? Math.max(...finite) + beyond : farthest;
    return column.map((value) => Math.min(Math.max(value, least), greatest));
  });
}

/** The thresholds of a budget ε in nats; −∞ for ε ≤ 0, the first slope continued below the table, the last row above it. */
export function interpolate(table: BudgetTable, epsilon: number): number[] {
  const { knots, widths, slopes, origin } = curveOf(table);
  if (!(epsilon > 0)) return origin.map(() => -Infinity);
  const level = Math.log(Math.max(epsilon, leastBudget)) + Math.log(table.scale);
  const steps = knots.map((knot, k) => Math.max(Math.min(level - knot, widths[k]!), k === 0 ? -Infinity : 0));
  return origin.map((start, c) => start + steps.reduce((sum, step, k) => sum + step * slopes[k]![c]!, 0));
}

/** The same as graph. budget [batch, 1] → one [batch, 1, 1] for each matching of each stage. */
export function thresholdsOf(g: GraphBuilder, budget: Value, table: BudgetTable): Value[] {
  const { knots, widths, slopes, origin } = curveOf(table);
  const level = log(g, max(g, budget, leastBudget));
  const shifted = knots.map((knot) => knot - Math.log(table.scale));
  const above = sub(g, level, g.constant(shifted, [1, knots.length]));
  const lower = knots.map((_, k) => (k === 0 ? -farthest : 0));
  const steps = max(g, min(g, above, g.constant(widths, [1, widths.length])), g.constant(lower, [1, lower.length]));
  const found = add(
    g,
    matMul(g, steps, g.constant(slopes.flat(), [knots.length, origin.length])),
    g.constant(origin, [1, origin.length]),
  );
  const all = where(g, greater(g, budget, g.constant(0)), found, g.constant(-Infinity));
  const rows = reshape(g, all, [all.shape[0]!, origin.length, 1]);
  return split(
    g,
    rows,
    1,
    origin.map(() => 1),
  );
}

/** The least budget that float32 still has a logarithm of at full precision. */
const leastBudget = 1e-37;

/**
 * The budget, in nats, at which a fraction of the FLOPs is saved: log ε linear in the measured fraction between rows, the ends
 * clamped: a fraction beyond the table gives its nearest row.
 */
export function budgetFor(table: BudgetTable, flopsSaved: number): number {
  curveOf(table);
  const rows = [...table.rows].sort((a, b) => a.flopsSaved - b.flopsSaved);
  let loss = -Infinity;
  const losses = rows.map(({ kl }) => (loss = Math.max(loss, Math.log(Math.max(kl, leastLoss)))));
  const next = rows.findIndex((row) => row.flopsSaved >= flopsSaved);
  if (next <= 0) return Math.exp(losses.at(next === 0 ? 0 : -1)!) / table.scale;
  const [a, b] = [rows[next - 1]!, rows[next]!];
  const share = (flopsSaved - a.flopsSaved) / (b.flopsSaved - a.flopsSaved);
  return Math.exp(losses[next - 1]! + share * (losses[next]! - losses[next - 1]!)) / table.scale;
}
