import { readBatch } from '../../../libs/data/batch.js';
import type { Dataset } from '../../../libs/data/dataset.js';
import { type EnergyMeter, joulesBetween } from '../../../libs/energy/meter.js';
import type { ProgressEvent } from '../progress.js';
import type { LoadedVersion } from './loaded-version.js';
import { argmax, mean, quantile } from './statistics.js';

/** What a version costs and answers on the same inputs as the others. */
export interface Comparison {
  readonly version: number;
  readonly policy: string;
  readonly budget: number | null;
  readonly samples: number;
  readonly batch: number;
  /** Milliseconds of a batch's run. */
  readonly latency: { readonly p50: number; readonly p95: number };
  /** Samples a second of run time. */
  readonly throughput: number;
  /** Joules a sample, of the whole machine while it ran; null without a meter. */
  readonly joules: number | null;
  readonly flops: number;
  /** Null without labels. */
  readonly accuracy: number | null;
  /** Share of the samples on which it answers as the first of the versions does. */
  readonly agreement: number;
}

interface Tally {
  readonly latencies: number[];
  /** Known with the meter's next reading, for which no run waits. */
  readonly joules: Promise<number | undefined>[];
  flops: number;
  correct: number;
  agree: number;
}

/**
 * Runs the versions in turn on every batch, the order shifted from batch to batch, so that what slows the machine for a while
 * slows all of them. The first `warmup` batches are run but not counted.
 */
export async function compare(
  versions: readonly LoadedVersion[],
  dataset: Dataset,
  indices: readonly number[],
  options: {
    batch: number;
    warmup: number;
    meter: EnergyMeter | undefined;
    signal: AbortSignal;
    progress: (event: ProgressEvent) => void;
  },
): Promise<Comparison[]> {
  const { batch, meter, signal } = options;
  const tallies = versions.map((): Tally => ({ latencies: [], joules: [], flops: 0, correct: 0, agree: 0 }));
  const whole = Math.floor(indices.length / batch);
  for (let turn = -options.warmup; turn < whole; turn++) {
    signal.throwIfAborted();
    const part = Array.from({ length: batch }, (_, i) => indices[(Math.max(turn, 0) * batch + i) % indices.length]!);
    const { pixels, labels } = await readBatch(dataset, part);
    const answers: number[][] = [];
    for (let i = 0; i < versions.length; i++) {
      const at = (i + Math.max(turn, 0)) % versions.length;
      const before = meter?.joules();
      const answer = await versions[at]!.classify(pixels, batch, signal);
      const joules = joulesBetween(before, meter?.joules());
      answers[at] = part.map((_, row) =>
        argmax(answer.logits.subarray(row * answer.classes, (row + 1) * answer.classes)),
      );
      if (turn < 0) continue;
      const tally = tallies[at]!;
      tally.latencies.push(answer.durationMs);
      tally.joules.push(joules);
      tally.flops += answer.flops.reduce((sum, flops) => sum + flops, 0);
    }
    if (turn < 0) continue;
    tallies.forEach((tally, at) => {
      part.forEach((_, row) => {
        if (labels !== undefined && answers[at]![row] === labels[row]) tally.correct++;
        if (answers[at]![row] === answers[0]![row]) tally.agree++;
      });
    });
    options.progress({ stage: 'compare', done: (turn + 1) * batch, total: whole * batch, unit: 'samples' });
  }
  const samples = whole * batch;
  const energies = await Promise.all(tallies.map(({ joules }) => Promise.all(joules)));
  return versions.map(({ version, manifest, budget }, at) => {
    const { latencies, flops, correct, agree } = tallies[at]!;
    const joules = energies[at]!.filter((each) => each !== undefined);
    return {
      version,
      policy: manifest.method?.policy ?? 'unpruned',
      budget,
      samples,
      batch,
      latency: { p50: quantile(latencies, 0.5), p95: quantile(latencies, 0.95) },
      throughput: (1000 * batch) / mean(latencies),
      joules: joules.length === 0 ? null : mean(joules) / batch,
      flops: flops / samples,
      accuracy: dataset.labelled ? correct / samples : null,
      agreement: agree / samples,
    };
  });
}
