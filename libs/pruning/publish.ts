import { specOf } from '../models/classifier.js';
import type { ManifestDraft } from '../store/publish.js';
import { openRepository } from '../store/repository.js';
import { digestArrays, writeArtefact } from './artefact.js';
import type { CertifiedPlan } from './calibration/search.js';
import { referenceArrays, type Plan } from './plan.js';
import type { Fit } from './policies/policy.js';
import type { Job } from './job.js';
import type { PruneResult } from './request.js';
import type { StageParameters } from './stages/parameters.js';

/** Writes the model that the plan makes, and publishes it as the next version. */
export async function publishPlan(
  job: Job,
  stages: readonly StageParameters[],
  fits: readonly Fit[],
  certified: CertifiedPlan,
): Promise<PruneResult> {
  const { request, context, checkpoint } = job;
  const referenced = referenceArrays(stages);
  const plan = planOf(job, certified, fits, referenced);
  context.progress({ stage: 'write', done: 0, total: 1, unit: 'models' });
  const repository = await openRepository(request.repository, { create: true });
  const fill = async (directory: string): Promise<ManifestDraft> => {
    await writeArtefact(directory, plan, checkpoint, referenced.arrays);
    return draftOf(job, plan, certified, stages);
  };
  const published = await repository.publish(request.name, fill, { signal: context.signal });
  context.progress({ stage: 'write', done: 1, total: 1, unit: 'models' });
  return { version: published.version, directory: published.directory, manifest: published.manifest };
}

function planOf(
  { request, checkpoint, data }: Job,
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
  { request, checkpoint, data, dense }: Job,
  plan: Plan,
  { table, segments, certificate }: CertifiedPlan,
  stages: readonly StageParameters[],
): ManifestDraft {
  const spec = specOf(checkpoint);
  const { policy, loss, seed, units } = request;
  const last = table?.rows.at(-1);
  return {
    task: 'image-classification',
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
    input: spec.image,
    labels: [...checkpoint.labels],
    preprocessing: checkpoint.preprocessing,
    tokens: { total: spec.tokens, special: spec.special, stages: stages.map(({ block }) => block) },
    flops: { dense, mean: certificate.flops, segments: [...segments] },
    budget:
      table && last
        ? { default: certificate.budget, ceiling: Math.max(certificate.budget, last.kl / table.scale) }
        : null,
    deltaLoss: {
      predicted: certificate.predicted,
      measured: certificate.measured,
      bound: certificate.bound,
      confidence: certificate.confidence,
      samples: certificate.samples,
    },
    accuracy: certificate.accuracy,
    ...(request.publication === undefined ? {} : { publication: request.publication }),
  };
}
