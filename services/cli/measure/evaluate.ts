import { readBatch } from '../../../libs/data/batch.js';
import type { Dataset } from '../../../libs/data/dataset.js';
import type { ProgressEvent } from '../progress.js';
import type { LoadedVersion } from './loaded-version.js';
import { argmax, klDivergence, logSoftmax } from './statistics.js';

/** How a version does on data. Means are per sample; null where there are no labels, or no version 1 to compare with. */
export interface Evaluation {
  readonly version: number;
  readonly policy: string;
  readonly samples: number;
  readonly budget: number | null;
  readonly accuracy: number | null;
  /** Mean cross-entropy in nats. */
  readonly crossEntropy: number | null;
  /** Mean KL(version 1 ‖ this version) in nats. */
  readonly kl: number | null;
  readonly flops: number;
  /** 1 − flops / those of version 1. */
  readonly flopsSaved: number;
  /** Mean tokens after each stage. */
  readonly tokensKept: readonly number[];
}

interface Sums {
  correct: number;
  crossEntropy: number;
  kl: number;
  flops: number;
  kept: number[];
}

/** Runs every version over the same samples, batch by batch. `baseline` (version 1) is what the KL is to. */
export async function evaluate(
  versions: readonly LoadedVersion[],
  baseline: LoadedVersion | undefined,
  dataset: Dataset,
  indices: readonly number[],
  options: { batch: number; signal: AbortSignal; progress: (event: ProgressEvent) => void },
): Promise<Evaluation[]> {
  const sums = new Map<LoadedVersion, Sums>(
    versions.map((version) => [
      version,
      { correct: 0, crossEntropy: 0, kl: 0, flops: 0, kept: version.manifest.tokens.stages.map(() => 0) },
    ]),
  );
  for (let from = 0; from < indices.length; from += options.batch) {
    options.signal.throwIfAborted();
    const part = indices.slice(from, from + options.batch);
    const { pixels, labels } = await readBatch(dataset, part);
    const run = (version: LoadedVersion) => version.classify(pixels, part.length, options.signal);
    const dense = baseline === undefined ? undefined : await run(baseline);
    for (const version of versions) {
      const answer = version === baseline && dense !== undefined ? dense : await run(version);
      const sum = sums.get(version)!;
      part.forEach((_, row) => {
        const logQ = logSoftmax(answer.logits, row, answer.classes);
        const label = labels?.[row];
        if (label !== undefined) {
          sum.correct += argmax(logQ) === label ? 1 : 0;
          sum.crossEntropy -= logQ[label] ?? -Infinity;
        }
        if (dense !== undefined) sum.kl += klDivergence(logSoftmax(dense.logits, row, dense.classes), logQ);
        sum.flops += answer.flops[row]!;
        sum.kept.forEach((_, stage) => (sum.kept[stage]! += answer.kept[row]![stage]!));
      });
    }
    options.progress({ stage: 'evaluate', done: from + part.length, total: indices.length, unit: 'samples' });
  }
  return versions.map((version) => summarise(version, sums.get(version)!, indices.length, dataset.labelled, baseline));
}

function summarise(
  { version, manifest, budget }: LoadedVersion,
  sum: Sums,
  samples: number,
  labelled: boolean,
  baseline: LoadedVersion | undefined,
): Evaluation {
  const flops = sum.flops / samples;
  return {
    version,
    policy: manifest.method?.policy ?? 'unpruned',
    samples,
    budget,
    accuracy: labelled ? sum.correct / samples : null,
    crossEntropy: labelled ? sum.crossEntropy / samples : null,
    kl: baseline === undefined ? null : sum.kl / samples,
    flops,
    flopsSaved: 1 - flops / manifest.flops.dense,
    tokensKept: sum.kept.map((kept) => kept / samples),
  };
}

/** Mean tokens over the stages' ends, for a table's one cell: `17 → 12.4 → 8.1`. */
export function tokensText(total: number, kept: readonly number[]): string {
  return [total, ...kept.map((tokens) => tokens.toFixed(1))].join(' → ');
}
