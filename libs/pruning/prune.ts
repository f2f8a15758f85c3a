import { HeartwoodError, invalid } from '../errors/error.js';
import { asFloat32, openCheckpoint } from '../models/checkpoint.js';
import { specOf } from '../models/classifier.js';
import { openRepository } from '../store/repository.js';
import { importBaseline } from './baseline.js';
import { openCalibration, requireLabels } from './calibration/data.js';
import { certifyPlan, searchTable, tokenRows } from './calibration/search.js';
import { chooseFixedUnits } from './fixed/choose.js';
import { needsLabels } from './fixed/policies.js';
import type { Job } from './job.js';
import { policies } from './policies/index.js';
import type { FitInputs, FittedScores, Policy } from './policies/policy.js';
import { publishPlan } from './publish.js';
import { PRUNABLE_UNITS, type PruneContext, type PruneRequest, type PruneResult } from './request.js';
import type { StageParameters } from './stages/parameters.js';
import { imageTask } from './tasks/images.js';
import { stageBlocks } from './statistics/schedule.js';

/**
 * From a checkpoint to a published version: imports it, measures curvature, fits the predictors, plans, searches thresholds on
 * samples of their own, certifies the plan on others, and publishes what passed. Every stage is kept, so the same request goes on where
 * it was stopped, to the same plan bit for bit. Throws FAILED_PRECONDITION when the budget cannot be met, with the best one that can.
 */
export async function prune(request: PruneRequest, context: PruneContext): Promise<PruneResult> {
  checkRequest(request);
  const repository = await openRepository(request.repository, { create: true });
  if (request.publication !== undefined) {
    const earlier = await repository.findPublication(request.name, request.publication);
    if (earlier) return earlier;
  }
  const job = await openJob(request, context);
  const { policy: name, units } = request;
  const policy: Policy = policies[name];
  const inputs: FitInputs = {
    checkpoint: job.checkpoint,
    samples: { dataset: job.data.dataset, indices: job.data.parts.fit },
    blocks: units.includes('tokens') ? stageBlocks(specOf(job.checkpoint).blocks.length) : [],
    seed: request.seed,
  };

  const targets = await context.checkpoint('score', async () => {
    if (inputs.blocks.length === 0) return null;
    return policy.score(inputs, {
      runtime: context.runtime,
      workDirectory: context.workDirectory,
      signal: context.signal,
      progress: ({ done, total, unit }) => context.progress({ stage: 'score', done, total, unit }),
    });
  });
  const fitted = await context.checkpoint('predictor', async (): Promise<FittedScores> => {
    if (inputs.blocks.length === 0) return { scores: [], fits: [] };
    const progress = (done: number, total: number) =>
      context.progress({ stage: 'predictor', done, total, unit: 'epochs' });
    const { runtime, signal } = context;
    return policy.fit(targets, inputs, { runtime, signal, progress });
  });
  const stages = fitted.scores.map((score, at): StageParameters => {
    const { rule, selection, matchings } = policy;
    return { block: inputs.blocks[at]!, rule, selection, matchings, score };
  });
  const plans = await context.checkpoint('plan', () => chooseFixedUnits(job, () => tokenRows(job, stages)));
  const found = await context.checkpoint('search', () => searchTable(job, stages, plans[0] ?? null));
  const certified = await context.checkpoint('certify', () => certifyPlan(job, stages, plans, found));
  return context.checkpoint('write', () => publishPlan(job, stages, fitted.fits, certified));
}

function checkRequest({ units, lossBudget, flopsSaved, policy }: PruneRequest): void {
  const unknown = units.find((unit) => !(PRUNABLE_UNITS as readonly string[]).includes(unit));
  if (unknown !== undefined) throw invalid(`units: ${unknown}, expected some of ${PRUNABLE_UNITS.join(', ')}`);
  if (units.length === 0) throw invalid(`units: none, expected some of ${PRUNABLE_UNITS.join(', ')}`);
  if (!Object.hasOwn(policies, policy)) {
    throw invalid(`policy: ${String(policy)}, expected one of ${Object.keys(policies).join(', ')}`);
  }
  if ((lossBudget === undefined) === (flopsSaved === undefined)) {
    throw invalid('lossBudget, flopsSaved: expected exactly one of the two');
  }
}

/** Imports the baseline and opens the data; what was imported must not have changed since the job began. */
async function openJob(request: PruneRequest, context: PruneContext): Promise<Job> {
  // What cannot be done is said before anything is published.
  const original = await openCheckpoint(request.modelDirectory);
  specOf(original);
  const data = await openCalibration(original, request);
  const { policy, loss, units } = request;
  if (needsLabels(policy, units)) {
    requireLabels(data.dataset, request.data, `policy ${policy}`);
  }
  if (loss === 'cross-entropy') requireLabels(data.dataset, request.data, 'loss cross-entropy');
  const imported = await context.checkpoint('import', async () => {
    const { published } = await importBaseline(request, context);
    const { checkpointDigest, flops } = published.manifest;
    return { checkpoint: checkpointDigest, data: data.dataset.digest, dense: flops.dense };
  });
  const checkpoint = await asFloat32(original, context.workDirectory);
  const changed = (what: string) =>
    new HeartwoodError('FAILED_PRECONDITION', `${what}: changed since this job began, expected a new job`);
  if (checkpoint.digest !== imported.checkpoint) throw changed(request.modelDirectory);
  if (data.dataset.digest !== imported.data) throw changed(request.data);
  const common = { request, context, checkpoint, data, dense: imported.dense };
  return { ...common, task: imageTask(common) };
}
