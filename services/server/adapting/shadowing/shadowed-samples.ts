import type { TensorValue } from '../../../../libs/runtime/tensor.js';
import {
  BUDGET,
  isClassifier,
  LOGITS,
  type ServedClassifier,
  type ServedVersion,
} from '../../catalog/served-version.js';
import type { Feeds } from '../../inference/feeds.js';
import { backgroundPriority, type InferenceResult } from '../../scheduling/scheduler.js';
import { divergences } from './divergence.js';
import { atDefault, type ShadowComparison } from './shadow-comparison.js';

/** Whether version 1 can run the same inputs, and both answer logits. The budget governs the pruned version alone. */
export function sameInputs(served: ServedClassifier, baseline: ServedVersion, { tensors }: Feeds): boolean {
  if (!isClassifier(baseline)) return false;
  const given = Object.keys(tensors).filter((name) => name !== BUDGET);
  const wanted = baseline.inputs.map(({ name }) => name).filter((name) => name !== BUDGET);
  return (
    served.answers(LOGITS) &&
    baseline.answers(LOGITS) &&
    given.length === wanted.length &&
    wanted.every((name) => given.includes(name))
  );
}

/** Feeds of memory of their own: those of a call are freed with it. */
export function copyOf(feeds: Feeds): Feeds {
  const tensors = Object.entries(feeds.tensors).map(([name, { type, dims, data }]) => [
    name,
    // A Buffer's slice would be the same memory.
    { type, dims, data: data instanceof Uint8Array ? new Uint8Array(data) : data.slice() },
  ]);
  return { ...feeds, tensors: Object.fromEntries(tensors) as Feeds['tensors'] };
}

/**
 * Runs a classifier's call by version 1 too, and compares with what it was answered. Undefined where that cannot be compared. Throws as the
 * scheduler.
 */
export async function compareSamples(
  served: ServedClassifier,
  baseline: ServedVersion,
  feeds: Feeds,
  result: InferenceResult,
  signal: AbortSignal,
): Promise<ShadowComparison | undefined> {
  if (!isClassifier(baseline)) return undefined;
  const { batch } = feeds;
  const job = { feeds: feedsFor(baseline, feeds), batch, outputs: [LOGITS], signal, priority: backgroundPriority };
  const first = await baseline.hold(() => baseline.scheduler.submit(job));
  const [p, q] = [first.outputs[LOGITS], result.outputs[LOGITS]];
  const found = p && q ? divergences(p, q) : undefined;
  if (!found) return undefined;
  const watched = found.filter((_, sample) => atDefault(served, feeds.budget?.[sample]));
  // A run that served other calls too took its time for them as well.
  const alone = result.runBatch === batch && first.runBatch === batch;
  return {
    divergences: found,
    watched: watched.map(({ kl }) => ({ kl, weight: 1 })),
    ...(alone ? { times: { servedMs: result.computeMs, firstMs: first.computeMs } } : {}),
  };
}

/** The feeds that version 1 takes; should it have a budget, it is to prune nothing. */
function feedsFor(baseline: ServedClassifier, { tensors, batch }: Feeds): Record<string, TensorValue> {
  const feeds = Object.fromEntries(Object.entries(tensors).filter(([name]) => name !== BUDGET));
  if (baseline.takes(BUDGET)) feeds[BUDGET] = { type: 'float32', dims: [batch, 1], data: new Float32Array(batch) };
  return feeds;
}
