import { invalid } from '../../../libs/errors/error.js';
import { argmax, logitDivergence } from '../../../libs/pruning/measure/divergence.js';
import type { Lane, SampleBatch, SampleSource } from './lane.js';
import type { ComparisonStep, LaneMeasurements, Measurements } from './measure.js';

/** What one version foretells behind the same tokens as another: rows of logits, a few at a time, that are read before the next are asked for. */
export type Predictions = AsyncIterable<readonly Float32Array[]>;

/** How a prediction differs from the first version's. */
export interface PredictionDifference {
  /** Whether both take the same token for the likeliest. */
  readonly agrees: boolean;
  /** KL(first ‖ this), nats; 0 where rounding would make it less. */
  readonly kl: number;
}

/**
 * Sets predictions behind the same tokens against the first one's, token by token: the differences of each but the first. Throws INVALID_ARGUMENT
 * where vocabularies differ, and what the predictions throw.
 *
 * @param pause awaited after every token: a vocabulary is long, and the thread is a server's
 */
export async function* comparePredictions(
  all: readonly Predictions[],
  pause: () => Promise<void>,
): AsyncGenerator<readonly PredictionDifference[], void, undefined> {
  const open = all.map((each) => each[Symbol.asyncIterator]());
  try {
    for (;;) {
      const next = await Promise.all(open.map((each) => each.next()));
      if (next.some(({ done }) => done === true)) return;
      const [first, ...others] = next.map(({ value }) => value as readonly Float32Array[]);
      for (const [at, p] of first!.entries()) {
        yield others.map((rows) => differenceOf(p, rows[at]));
        await pause();
      }
    }
  } finally {
    // One that failed is over; the others are told that nobody reads on.
    await Promise.allSettled(open.map(async (each) => each.return?.()));
  }
}

function differenceOf(p: Float32Array, q: Float32Array | undefined): PredictionDifference {
  if (q?.length !== p.length)
    throw invalid(`predictions over ${q?.length ?? 0} and ${p.length} tokens: they cannot be compared`);
  return { agrees: argmax(p) === argmax(q), kl: Math.max(0, logitDivergence(p, q)) };
}

/**
 * What the versions foretell of the same texts, behind the same tokens; once everything that is timed has been. One version alone has nothing to be
 * set against.
 */
export async function predict<Batch extends SampleBatch>(
  lanes: readonly Lane<Batch>[],
  measured: readonly LaneMeasurements[],
  source: SampleSource<Batch>,
  samples: number,
  signal: AbortSignal,
  progress: (step: ComparisonStep) => void,
): Promise<Pick<Measurements, 'predictions' | 'predictionsAt'>> {
  const predictions = new Float64Array(samples);
  const predictionsAt: number[] = [];
  const pause = () => new Promise<void>((resolve) => setImmediate(resolve));
  for (let sample = 0; lanes.length > 1 && sample < samples; sample++) {
    signal.throwIfAborted();
    const batch = await source.read([sample]);
    const all = lanes.flatMap((lane) => lane.predictions?.(batch, signal) ?? []);
    if (all.length < lanes.length) break;
    let at = 0;
    for await (const differences of comparePredictions(all, pause)) {
      for (const [other, { agrees, kl }] of differences.entries()) {
        const into = measured[other + 1]!;
        into.agrees[sample]! += agrees ? 1 : 0;
        into.kl[sample]! += kl;
        into.klAt[at] = (into.klAt[at] ?? 0) + kl;
      }
      measured[0]!.agrees[sample]! += 1;
      predictions[sample]! += 1;
      predictionsAt[at] = (predictionsAt[at] ?? 0) + 1;
      at++;
    }
    progress({ stage: 'predict', done: sample + 1, total: samples, unit: 'samples' });
  }
  measured[0]!.klAt.push(...predictionsAt.map(() => 0));
  return { predictions, predictionsAt };
}
