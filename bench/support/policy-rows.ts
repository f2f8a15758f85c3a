/** All rows of bench:policies for one model. */
import type { PolicyName } from '../../libs/pruning/policies/index.js';
import { policies } from '../../libs/pruning/policies/index.js';
import type { FittedScores, Policy } from '../../libs/pruning/policies/policy.js';
import { openNetwork } from '../../libs/pruning/calibration/network.js';
import { argmax } from '../../libs/pruning/measure/divergence.js';
import type { PreparedSamples } from '../../libs/pruning/measure/prepared.js';
import { stageBlocks } from '../../libs/pruning/statistics/schedule.js';
import { lossAt, type Loss } from './matched-saving.js';
import type { BenchContext, OpenSubject } from './pruning-bench.js';
import { variants, type Variant } from './variants.js';

/** Shares of the FLOPs to save. */
export const shares = [0.3, 0.5, 0.65];

export interface PolicyRow {
  readonly model: string;
  readonly policy: string;
  /** Of the FLOPs, saved. */
  readonly share: number;
  /** Mean over the seeds of the mean over the test samples; nats. */
  readonly kl: number;
  /** Standard deviation over the seeds; 0 where the seed has no say. */
  readonly klSpread: number;
  readonly accuracy: number | null;
  readonly denseAccuracy: number | null;
  readonly tests: number;
  readonly seeds: readonly ({ readonly seed: number } & Loss)[];
}

/** Measures every variant at every share, seed after seed. What saves no more than so much has no row there. */
export async function policyRows(subject: OpenSubject, context: BenchContext): Promise<PolicyRow[]> {
  const found = new Map<string, { seed: number; loss: Loss }[]>();
  const key = (variant: Variant, share: number) => `${variant.name}\n${share}`;
  const settled = new Map<string, string>();
  const began = Date.now();
  for (const [seed, { dataset, parts }] of subject.calibrations) {
    const search = await subject.prepare(dataset, parts.search);
    const fits = new Map<PolicyName, FittedScores>();
    for (const variant of variants) {
      const policy: Policy = policies[variant.policy];
      if (policy.needsLabels && !dataset.labelled) continue;
      let fitted = fits.get(variant.policy);
      if (!fitted) fits.set(variant.policy, (fitted = await fit(policy, subject, seed, context)));
      const stages = variant.stages(variant.blocks(subject.blocks), fitted.scores);
      // Ranks look at no calibration samples: where the scores are those of the seed before, so is all else.
      const content = stages.every(({ selection }) => selection === 'rank') ? JSON.stringify(stages) : undefined;
      const same = content !== undefined && settled.get(variant.name) === content;
      if (content !== undefined) settled.set(variant.name, content);
      const measured = same ? undefined : await lossesOf(variant, stages, search, subject, context);
      for (const [at, share] of shares.entries()) {
        const list = found.get(key(variant, share)) ?? [];
        const loss = same ? list.at(-1)?.loss : measured?.[at];
        if (loss) found.set(key(variant, share), [...list, { seed, loss }]);
      }
      const seconds = Math.round((Date.now() - began) / 1000);
      console.error(`${subject.name}: seed ${seed}, ${variant.name}${same ? ' (as before)' : ''}, ${seconds} s`);
    }
  }
  const denseAccuracy = accuracyOf(subject.test);
  return variants.flatMap((variant) =>
    shares.flatMap((share): PolicyRow[] => {
      const list = found.get(key(variant, share));
      if (!list) return [];
      const kls = list.map(({ loss }) => loss.kl);
      const accuracies = list.flatMap(({ loss }) => loss.accuracy ?? []);
      return [
        {
          model: subject.name,
          policy: variant.name,
          share,
          kl: mean(kls),
          klSpread: deviation(kls),
          accuracy: accuracies.length > 0 ? mean(accuracies) : null,
          denseAccuracy,
          tests: subject.test.size,
          seeds: list.map(({ seed, loss }) => ({ seed, ...loss })),
        },
      ];
    }),
  );
}

async function fit(
  policy: Policy,
  { checkpoint, blocks, calibrations }: OpenSubject,
  seed: number,
  context: BenchContext,
): Promise<FittedScores> {
  const { dataset, parts } = calibrations.get(seed)!;
  const inputs = { checkpoint, samples: { dataset, indices: parts.fit }, blocks: stageBlocks(blocks), seed };
  const quiet = { ...context, progress: () => undefined };
  return policy.fit(await policy.score(inputs, quiet), inputs, quiet);
}

async function lossesOf(
  variant: Variant,
  stages: ReturnType<Variant['stages']>,
  search: PreparedSamples,
  { checkpoint, dense, test }: OpenSubject,
  context: BenchContext,
): Promise<(Loss | undefined)[]> {
  const network = await openNetwork(context.runtime, checkpoint, new Map(), stages, context);
  try {
    const losses: (Loss | undefined)[] = [];
    for (const share of shares) {
      const place = (nominal: number) => variant.place(network, search, nominal, dense);
      losses.push(await lossAt(network, test, share, dense, place));
    }
    return losses;
  } finally {
    await network.dispose();
  }
}

/** Of the dense model; null without labels. */
function accuracyOf({ batches, size }: PreparedSamples): number | null {
  let right = 0;
  for (const { labels, dense } of batches) {
    if (!labels) return null;
    dense.forEach((row, at) => (right += argmax(row) === labels[at] ? 1 : 0));
  }
  return right / size;
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Of a sample: n − 1. */
function deviation(values: readonly number[]): number {
  if (values.length < 2) return 0;
  const centre = mean(values);
  return Math.sqrt(values.reduce((sum, value) => sum + (value - centre) ** 2, 0) / (values.length - 1));
}
