import { costWindow } from '../../../libs/pruning/text/cost.js';
import type { TextManifest } from '../../../libs/store/manifest.js';

/**
 * FLOPs of so many tokens that ran through a language model, `kept` of them past each of its stages (all of those that are generated).
 *
 * The manifest's segments are the cost of a window: C + Σ_k s_k · kept_k at `text.costPrompt` prompt tokens, none of them dropped at
 * kept_k = costPrompt. So a token costs c = (C + Σ_k s_k · costPrompt) / window, and each that a stage held back saves s_k. Attention is
 * counted as in that window, whatever the context is.
 */
export function textFlopsOf({
  flops: { mean, segments },
  text,
}: Pick<TextManifest, 'flops' | 'text'>): (tokens: number, kept: readonly number[]) => number {
  const { costPrompt } = text;
  const [whole, ...stages] = segments;
  // A version of before stages' costs could be taken apart: as the window that they were certified on.
  if (whole === undefined || (stages.length > 0 && costPrompt === undefined)) return (tokens) => mean * tokens;
  const slopes = stages.map(({ linear }) => linear);
  const window = slopes.reduce((sum, slope) => sum + slope * costPrompt!, whole.constant);
  const token = stages.length === 0 ? mean : window / costWindow(text);
  return (tokens, kept) =>
    slopes.reduce((sum, slope, stage) => sum - slope * (tokens - (kept[stage] ?? tokens)), token * tokens);
}
