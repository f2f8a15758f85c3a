import type { Session } from '../../runtime/runtime.js';
import type { TensorValue } from '../../runtime/tensor.js';
import { argmax, klDivergence, logSoftmax } from './divergence.js';
import type { PreparedSamples } from './prepared.js';

/** What a pruned model loses, by independent sample: an image, or a document (whose positions depend on each other). */
export interface LossMeasures {
  /** KL(dense ‖ pruned), nats: the mean of the sample's predictions. */
  readonly kl: Float64Array;
  /** Predictions that each sample holds; absent where each is one. */
  readonly weights?: Float64Array | undefined;
  /** Cross-entropy of both, nats; absent where only its rise was measured. */
  readonly denseLoss?: Float64Array | undefined;
  readonly prunedLoss?: Float64Array | undefined;
  /** Cross-entropy pruned − dense, nats; absent without labels. */
  readonly crossEntropyRise: Float64Array | undefined;
  /** The share of its predictions that are the label, 0 or 1 of an image; absent without labels. */
  readonly denseCorrect: ArrayLike<number> | undefined;
  readonly prunedCorrect: ArrayLike<number> | undefined;
}

/** What a pruned classifier does, image by image. */
export interface SampleMeasures extends LossMeasures {
  /** The summed predicted cost of what was merged, where the model tells it. */
  readonly cost: Float64Array | undefined;
  /** [samples][stages]. */
  readonly kept: readonly (readonly number[])[];
}

/** Runs a pruned model over prepared samples. `feeds` gives what it takes beside the pixels for a batch of that size. */
export async function measure(
  session: Session,
  samples: PreparedSamples,
  feeds: (size: number) => Record<string, TensorValue>,
  options: { signal: AbortSignal; progress?: (done: number) => void },
): Promise<SampleMeasures> {
  const labelled = samples.batches.every(({ labels }) => labels !== undefined);
  const kl = new Float64Array(samples.size);
  const rise = labelled ? new Float64Array(samples.size) : undefined;
  const denseCorrect = labelled ? new Uint8Array(samples.size) : undefined;
  const prunedCorrect = labelled ? new Uint8Array(samples.size) : undefined;
  const costs: number[] = [];
  const kept: number[][] = [];
  let at = 0;
  for (const { size, pixels, labels, dense } of samples.batches) {
    options.signal.throwIfAborted();
    const answer = await session.run({ pixel_values: pixels, ...feeds(size) });
    const logits = answer['logits']!.data as Float32Array;
    const tokens = answer['tokens_kept'];
    const cost = answer['cost']?.data as Float32Array | undefined;
    if (cost) costs.push(...cost);
    for (let row = 0; row < size; row++, at++) {
      const logQ = logSoftmax(logits, row, samples.classes);
      const logP = dense[row]!;
      kl[at] = klDivergence(logP, logQ);
      const label = labels?.[row];
      if (label !== undefined && rise && denseCorrect && prunedCorrect) {
        rise[at] = logP[label]! - logQ[label]!;
        denseCorrect[at] = argmax(logP) === label ? 1 : 0;
        prunedCorrect[at] = argmax(logQ) === label ? 1 : 0;
      }
      const stages = tokens?.dims[1] ?? 0;
      kept.push(tokens ? Array.from((tokens.data as Int32Array).subarray(row * stages, (row + 1) * stages)) : []);
    }
    options.progress?.(at);
  }
  return {
    kl,
    crossEntropyRise: rise,
    denseCorrect,
    prunedCorrect,
    cost: costs.length > 0 ? Float64Array.from(costs) : undefined,
    kept,
  };
}

/** The mean of what is there, each value counted by its weight where there are weights. */
export function meanOf(values: ArrayLike<number>, weights?: ArrayLike<number>): number {
  let [sum, total] = [0, 0];
  for (let i = 0; i < values.length; i++) {
    const weight = weights?.[i] ?? 1;
    sum += weight * values[i]!;
    total += weight;
  }
  return sum / total;
}
