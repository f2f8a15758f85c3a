import { invalid } from '../../errors/error.js';
import { leastTokens } from '../stages/parameters.js';

/** What is asked for: so many counts below all tokens, or these. */
export type LadderWish = { readonly rungs: number } | { readonly counts: readonly number[] };

/** Files grow with rungs times stages. */
export const mostRungs = 16;
/** The lowest of so-and-so many rungs is this share of all tokens. */
const lowest = 1 / 8;

/**
 * The counts of a ladder, descending, all tokens first: those that are named, or as many as are wanted in equal ratios down to an eighth.
 * Throws INVALID_ARGUMENT for counts that the stages cannot leave.
 */
export function ladderCounts(wish: LadderWish, tokens: number): number[] {
  if ('counts' in wish) {
    const wrong = wish.counts.find((count) => !Number.isInteger(count) || count < leastTokens || count > tokens);
    if (wrong !== undefined) throw invalid(`ladder: ${wrong} tokens, expected ${leastTokens} to ${tokens}`);
    return descending([tokens, ...wish.counts]);
  }
  const { rungs } = wish;
  if (!Number.isInteger(rungs) || rungs < 1 || rungs > mostRungs)
    throw invalid(`ladder: ${rungs} rungs, expected 1 to ${mostRungs}`);
  const spread = Array.from({ length: rungs }, (_, at) => Math.round(tokens * lowest ** ((at + 1) / rungs)));
  return descending([tokens, ...spread.map((count) => Math.max(count, leastTokens))]);
}

function descending(counts: readonly number[]): number[] {
  return [...new Set(counts)].sort((a, b) => b - a);
}

/** `4` (so many rungs) or `48,32,16` (these counts). Throws INVALID_ARGUMENT. */
export function parseLadder(text: string): LadderWish {
  const numbers = text.split(',').map((part) => (/^\s*\d+\s*$/.test(part) ? Number(part) : NaN));
  if (numbers.some(Number.isNaN))
    throw invalid(
      `ladder: expected a number of rungs, or counts such as 48,32,16, got ${JSON.stringify(text.slice(0, 60))}`,
    );
  return text.includes(',') ? { counts: numbers } : { rungs: numbers[0]! };
}

/** The same as text; empty for none. */
export function ladderText(wish: LadderWish | undefined): string {
  if (wish === undefined) return '';
  return 'rungs' in wish ? String(wish.rungs) : wish.counts.join();
}

/** The lowest rung that keeps at least as many tokens as are to stay. */
export function rungFor(counts: readonly number[], kept: number): number {
  return counts.findLast((count) => count >= kept)!;
}
