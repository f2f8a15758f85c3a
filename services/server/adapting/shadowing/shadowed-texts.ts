import { isClassifier, type ServedLanguageModel, type ServedVersion } from '../../catalog/served-version.js';
import { comparePredictions } from '../../comparison/predictions.js';
import type { EachRun, ForcedText } from '../../generation/teacher-forcing.js';
import type { SampleDivergence } from './divergence.js';
import { atDefault, type ShadowComparison } from './shadow-comparison.js';

/** What a text's comparison is to keep to. */
export interface TextTurns {
  readonly signal: AbortSignal;
  /** Settles when nobody's call is under way. */
  turn(): Promise<void>;
  /** Does work whose energy is nobody's. */
  beside<T>(work: () => Promise<T>): Promise<T>;
}

/** Whether version 1 reads the same tokens, and as many of them. */
export function sameTokens(served: ServedLanguageModel, baseline: ServedVersion): baseline is ServedLanguageModel {
  if (isClassifier(baseline)) return false;
  const [own, first] = [served.manifest, baseline.manifest];
  return (
    own.text.vocabulary === first.text.vocabulary &&
    own.text.context <= first.text.context &&
    own.files[own.text.tokenizer] === first.files[first.text.tokenizer]
  );
}

/**
 * Has version 1 and the version that generated a text read it once more, token by token, and compares what they foretell behind the same tokens: what the
 * version drew its tokens from, at the budget that was in force. Each run, a stretch of the text through one of the two, is alone, and begins when nobody's
 * call is under way. Undefined where that cannot be compared. Throws CANCELLED, RESOURCE_EXHAUSTED (no memory for the caches), UNAVAILABLE,
 * FAILED_PRECONDITION (a version was unloaded meanwhile), INTERNAL.
 */
export async function compareTexts(
  served: ServedLanguageModel,
  baseline: ServedVersion,
  text: ForcedText,
  turns: TextTurns,
): Promise<ShadowComparison | undefined> {
  if (!sameTokens(served, baseline)) return undefined;
  const alone = oneAtATime();
  let [servedMs, firstMs] = [0, 0];
  const timed =
    (spent: (ms: number) => void): EachRun =>
    (run) =>
      alone(async () => {
        await turns.turn();
        const found = await turns.beside(run);
        spent(found.durationMs);
        return found;
      });
  const { signal } = turns;
  const predictions = [
    // Should version 1 have a budget, it is to drop nothing.
    baseline.forcing.logits(
      { ...text, budget: 0 },
      signal,
      timed((ms) => (firstMs += ms)),
    ),
    served.forcing.logits(
      text,
      signal,
      timed((ms) => (servedMs += ms)),
    ),
  ];
  const found: SampleDivergence[] = [];
  // A token's share of the thread is a vocabulary's worth: others come between, and those whose call has come come first.
  const pause = async (): Promise<void> => {
    await new Promise<void>((resolve) => setImmediate(resolve));
    await turns.turn();
  };
  for await (const [divergence] of comparePredictions(predictions, pause)) found.push(divergence!);
  const sum = found.reduce((total, { kl }) => total + kl, 0);
  if (found.length === 0 || !Number.isFinite(sum)) return undefined;
  return {
    divergences: found,
    watched: atDefault(served, text.budget) ? [{ kl: sum / found.length, weight: found.length }] : [],
    times: { servedMs, firstMs },
  };
}

/** Begins a work when the one before it has settled. */
function oneAtATime(): <T>(work: () => Promise<T>) => Promise<T> {
  let last: Promise<unknown> = Promise.resolve();
  return (work) => {
    const mine = last.then(work);
    last = mine.catch(() => undefined);
    return mine;
  };
}
