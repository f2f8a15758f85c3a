import { specOf } from '../../models/classifier.js';
import type { Job, JobContext } from '../job.js';
import { policies } from '../policies/index.js';
import type { Fit, FitInputs, FittedScores, Policy } from '../policies/policy.js';
import type { StageParameters } from '../stages/parameters.js';
import { stageBlocks } from '../statistics/schedule.js';

/** Merging stages whose thresholds are still open, and how well their predictors foretell. */
export interface FittedStages {
  readonly stages: readonly StageParameters[];
  readonly fits: readonly Fit[];
}

/** Measures what the predictors are to foretell, and fits them; no stages where no tokens are to go. */
export async function fitStages(job: Job | undefined, context: JobContext): Promise<FittedStages> {
  const wanted = job?.request.units.includes('tokens') ? job : undefined;
  const blocks = wanted ? stageBlocks(specOf(wanted.checkpoint).blocks.length) : [];
  const policy: Policy | undefined = wanted && policies[wanted.request.policy];
  const inputs: FitInputs | undefined = wanted && {
    checkpoint: wanted.checkpoint,
    samples: { dataset: wanted.data.dataset, indices: wanted.data.parts.fit },
    blocks,
    seed: wanted.request.seed,
  };
  const { runtime, workDirectory, signal, shards } = context;
  const targets = await context.checkpoint('score', async () => {
    if (!policy || !inputs) return null;
    const progress = (event: { done: number; total: number; unit: string }) =>
      context.progress({ ...event, stage: 'score' });
    return policy.score(inputs, { runtime, workDirectory, signal, shards, progress });
  });
  const fitted = await context.checkpoint('predictor', async (): Promise<FittedScores> => {
    if (!policy || !inputs) return { scores: [], fits: [] };
    const progress = (done: number, total: number) =>
      context.progress({ stage: 'predictor', done, total, unit: 'epochs' });
    return policy.fit(targets, inputs, { runtime, signal, progress });
  });
  const stages = fitted.scores.map((score, at): StageParameters => {
    const { rule, selection, matchings } = policy!;
    return { block: blocks[at]!, rule, selection, matchings, score };
  });
  return { stages, fits: fitted.fits };
}
