import { invalid } from '../../errors/error.js';
import type { BudgetRow, BudgetTable } from '../stages/budget.js';

/**
 * The threshold θ below which, strictly, the wanted number of candidates lies: `cost < θ` merges them. Half way to the next cost,
 * so that rounding elsewhere does not move one across. Where equal costs straddle the number, all or none of them
 * are merged, whichever is nearer (none when both are as near). A float32.
 *
 * @param costs of all candidates of all samples in one matching, +∞ for none
 * @param merges wanted over all samples; rounded
 * @returns −∞ when there are no candidates
 */
export function pooledThreshold(costs: Float32Array, merges: number): number {
  const sorted = costs.filter((cost) => cost < Infinity).sort();
  if (costs.some(Number.isNaN)) throw invalid('a cost is NaN, expected a number');
  const count = sorted.length;
  if (count === 0) return -Infinity;
  const wanted = Math.min(count, Math.max(0, Math.round(merges)));
  if (wanted === count) return after(sorted[count - 1]!);
  if (wanted === 0 || sorted[wanted - 1] !== sorted[wanted]) return between(sorted, wanted);
  const tied = sorted[wanted]!;
  const first = sorted.indexOf(tied);
  const last = sorted.lastIndexOf(tied) + 1;
  const cut = wanted - first <= last - wanted ? first : last;
  return cut === count ? after(tied) : between(sorted, cut);
}

/** A float32 above the first `count` costs and not above the next one. */
function between(sorted: Float32Array, count: number): number {
  if (count === 0) return sorted[0]!;
  const [below, above] = [sorted[count - 1]!, sorted[count]!];
  const middle = Math.fround((below + above) / 2);
  return middle > below ? middle : above;
}

/** A float32 just above a finite one. */
function after(value: number): number {
  const step = Math.max(Math.abs(value), 1e-30) * 2 ** -23;
  return Math.fround(value + step);
}

/** Log units by which "merges nothing" is put below the least threshold of its column, so that JSON can hold it. */
const beyond = 8;

/** Twice what the interpolation tells apart (stages/budget.ts): rows of a table are never on its edge. */
const leastStep = 2e-4;
const logOf = (loss: number): number => Math.log(Math.max(loss, 1e-9));

/**
 * Rows as measured made into a table that is monotone: by FLOPs saved, the loss and every threshold by running maxima; of rows with
 * the same loss, to two ten-thousandths, the one that saves most stays.
 * @throws HeartwoodError INVALID_ARGUMENT for no rows, rows of different lengths, or what is no number
 */
export function budgetTable(measured: readonly BudgetRow[], scale = 1): BudgetTable {
  const first = measured[0];
  if (!first) throw invalid('a budget table needs at least one row');
  const columns = first.thresholds.length;
  for (const { flopsSaved, kl, thresholds } of measured) {
    if (thresholds.length !== columns)
      throw invalid(`a budget row has ${thresholds.length} thresholds, expected ${columns}`);
    if (![flopsSaved, kl].every(Number.isFinite) || thresholds.some(Number.isNaN)) {
      throw invalid(
        `a budget row has ${flopsSaved} saved at ${kl} nats with [${thresholds.join(', ')}], expected numbers`,
      );
    }
  }
  const least = Array.from({ length: columns }, (_, c) => {
    const finite = measured.map(({ thresholds }) => thresholds[c]!).filter(Number.isFinite);
    return (finite.length > 0 ? Math.min(...finite) : 0) - beyond;
  });
  const rows: BudgetRow[] = [];
  let [loss, levels] = [0, least];
  for (const { flopsSaved, kl, thresholds } of [...measured].sort(
    (a, b) => a.flopsSaved - b.flopsSaved || a.kl - b.kl,
  )) {
    // Sorted by saving, then loss: one that saves no more than the row before is a worse choice of the same.
    if (rows.length > 0 && flopsSaved <= rows.at(-1)!.flopsSaved) continue;
    const before = loss;
    loss = Math.max(loss, kl);
    levels = levels.map((level, c) => Math.max(level, thresholds[c]!));
    if (rows.length > 0 && logOf(loss) - logOf(before) < leastStep) rows.pop();
    rows.push({ flopsSaved, kl: loss, thresholds: levels });
  }
  return { rows, scale };
}
