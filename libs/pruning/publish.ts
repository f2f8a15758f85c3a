import type { ManifestDraft } from '../store/publish.js';
import { openRepository } from '../store/repository.js';
import { digestArrays } from './artefact.js';
import type { CertifiedPlan } from './calibration/search.js';
import { referenceArrays, type Plan, type TokenStage } from './plan.js';
import type { Fit } from './policies/policy.js';
import type { AnyJob } from './job.js';
import type { PruneResult } from './request.js';
import type { TaskDraft } from './tasks/task.js';

/** Writes the model that the plan makes, and publishes it as the next version. */
export async function publishPlan(
  job: AnyJob,
  stages: readonly TokenStage[],
  fits: readonly Fit[],
  certified: CertifiedPlan,
): Promise<PruneResult> {
  const { request, context } = job;
  const referenced = referenceArrays(stages);
  const plan = planOf(job, certified, fits, referenced);
  context.progress({ stage: 'write', done: 0, total: 1, unit: 'models' });
  const repository = await openRepository(request.repository, { create: true });
  const fill = async (directory: string): Promise<ManifestDraft> => {
    const own = await job.task.write(directory, plan, referenced.arrays);
    return draftOf(job, plan, certified, own);
  };
  const published = await repository.publish(request.name, fill, { signal: context.signal });
  context.progress({ stage: 'write', done: 1, total: 1, unit: 'models' });
  return { version: published.version, directory: published.directory, manifest: published.manifest };
}

function planOf(
  { request, checkpoint, data }: AnyJob,
  { removed, table, certificate }: CertifiedPlan,
  fits: readonly Fit[],
  referenced: ReturnType<typeof referenceArrays>,
): Plan {
  const { fit, search, certify } = data.parts;
  return {
    schema: 1,
    checkpointDigest: checkpoint.digest,
    data: { digest: data.dataset.digest, fit: fit.length, search: search.length, certify: certify.length },
    policy: request.policy,
    loss: request.loss,
    units: [...request.units],
    seed: request.seed,
    target: request.lossBudget !== undefined ? { lossBudget: request.lossBudget } : { flopsSaved: request.flopsSaved! },
    removed,
    tokens: table && {
      stages: referenced.stages,
      predictors: digestArrays(referenced.arrays),
      fits,
      table,
    },
    certificate,
  };
}

function draftOf(
  { request, checkpoint, data, dense }: AnyJob,
  plan: Plan,
  { table, segments, certificate }: CertifiedPlan,
  own: TaskDraft,
): ManifestDraft {
  const { policy, loss, seed, units } = request;
  const last = table?.rows.at(-1);
  const { predicted, measured, bound, confidence, samples, predictions } = certificate;
  return {
    parent: 1,
    architecture: checkpoint.architecture,
    checkpointDigest: checkpoint.digest,
    dataDigest: data.dataset.digest,
    method: {
      policy,
      loss,
      lossBudget: request.lossBudget ?? null,
      flopsSaved: request.flopsSaved ?? null,
      units: [...units],
      seed,
    },
    plan,
    ...own,
    flops: { dense, mean: certificate.flops, segments: [...segments] },
    budget:
      table && last
        ? { default: certificate.budget, ceiling: Math.max(certificate.budget, last.kl / table.scale) }
        : null,
    deltaLoss: {
      predicted,
      measured,
      bound,
      confidence,
      ...(predictions === undefined ? { samples } : { samples: predictions, documents: samples }),
    },
    accuracy: certificate.accuracy,
    ...(request.publication === undefined ? {} : { publication: request.publication }),
  };
}
