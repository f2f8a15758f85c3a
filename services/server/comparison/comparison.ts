import { invalid } from '../../../libs/errors/error.js';
import type { ComparisonSettings, Lane, SampleBatch, SampleSource } from './lane.js';
import { type ComparisonHooks, measureLanes } from './measure.js';
import type { ComparisonResult } from './result.js';
import { summariseComparison } from './summary.js';

/**
 * Compares versions on the same samples, interleaved: latency, throughput, joules, FLOPs, accuracy, and how far each one's answers are from
 * the first one's, every difference with its confidence interval.
 * Throws INVALID_ARGUMENT on settings that do not fit the samples, what a lane throws, and the signal's reason when it aborts.
 */
export async function compareLanes<Batch extends SampleBatch>(
  lanes: readonly Lane<Batch>[],
  source: SampleSource<Batch>,
  settings: ComparisonSettings,
  hooks: ComparisonHooks,
): Promise<ComparisonResult> {
  checkComparison(source.size, lanes.length, settings);
  const measured = await measureLanes(lanes, source, settings, hooks);
  // The thread is a server's own: whoever waits for it has it between two portions of the statistics.
  const pause = async (): Promise<void> => {
    await new Promise((resolve) => setImmediate(resolve));
    hooks.signal.throwIfAborted();
  };
  return summariseComparison(measured, settings, pause);
}

/** Throws INVALID_ARGUMENT naming the setting that does not fit. */
export function checkComparison(samples: number, lanes: number, settings: ComparisonSettings): void {
  const { batch, concurrency, warmup, confidence, seed } = settings;
  const whole = (name: string, value: number, least: number): void => {
    if (!Number.isSafeInteger(value) || value < least)
      throw invalid(`${name}: expected a whole number of ${least} or more, got ${value}`);
  };
  if (lanes === 0) throw invalid('versions: expected at least one');
  whole('batch', batch, 1);
  whole('concurrency', concurrency, 1);
  whole('warmup', warmup, 0);
  whole('seed', seed, 0);
  if (!(confidence > 0.5 && confidence < 1)) throw invalid(`confidence: expected between 0.5 and 1, got ${confidence}`);
  if (batch > samples) throw invalid(`batch: ${batch} is more than the ${samples} samples`);
  const requests = Math.floor(samples / batch);
  if (concurrency > requests) {
    throw invalid(
      `concurrency: ${concurrency} is more than the ${requests} requests that ${samples} samples make in batches of ${batch}`,
    );
  }
}
