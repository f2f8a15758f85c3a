import { HeartwoodError, invalid } from '../errors/error.js';
import { taskOf } from '../models/architectures/index.js';
import { asFloat32, openCheckpoint, type Checkpoint } from '../models/checkpoint.js';
import { specOf } from '../models/classifier.js';
import { openRepository } from '../store/repository.js';
import { checkCheckpoint, importBaseline } from './baseline.js';
import { openCalibration, requireLabels } from './calibration/data.js';
import { certifyPlan, certifyRemoval, noTable, searchTable, tokenRows } from './calibration/search.js';
import { fitStages } from './calibration/stages.js';
import { chooseFixedUnits } from './fixed/choose.js';
import { ladderCounts } from './ladder/counts.js';
import { FIXED_POLICIES, needsLabels } from './fixed/policies.js';
import type { AnyJob, Job, Opened, SplitData } from './job.js';
import { certifyPrompts, fitPrompts, searchPrompts, type TextJob } from './prompt/plan.js';
import { policies } from './policies/index.js';
import { publishPlan } from './publish.js';
import { PRUNABLE_UNITS, type PruneContext, type PruneRequest, type PruneResult } from './request.js';
import { sharingOf } from './shards.js';
import { imageTask } from './tasks/images.js';
import { FIXED_KINDS } from './tasks/task.js';
import { textTask } from './tasks/text.js';
import { openTextCalibration } from './text/data.js';

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
  const { job, images, text } = await openJob(request, context);
  if (text?.request.units.includes('tokens')) return prunePrompts(text, context);
  const { stages, fits } = await fitStages(images, job.context);
  const plans = await context.checkpoint('plan', () =>
    chooseFixedUnits(job, async () => (images ? tokenRows(images, stages) : [])),
  );
  const found = await context.checkpoint('search', async () =>
    images ? searchTable(images, stages, plans[0] ?? null) : noTable,
  );
  const certified = await context.checkpoint('certify', () =>
    images ? certifyPlan(images, stages, plans, found) : certifyRemoval(job, plans),
  );
  return context.checkpoint('write', () => publishPlan(job, stages, fits, certified));
}

/** Of a budget for prompt tokens and for what goes for good together, what the latter may take on the searched documents. */
const fixedPart = 0.35;

/** A language model whose prompts lose tokens, after what goes for good was chosen; both are certified together. */
async function prunePrompts(job: TextJob, context: PruneContext): Promise<PruneResult> {
  const { stages, fits } = await fitPrompts(job);
  const fixed = { ...job, request: { ...job.request, lossBudget: fixedPart * job.request.lossBudget! } };
  const plans = await context.checkpoint('plan', () => chooseFixedUnits(fixed, () => Promise.resolve([])));
  const removed = plans.at(-1) ?? null;
  const rows = await context.checkpoint('search', () => searchPrompts(job, stages, removed));
  const certified = await context.checkpoint('certify', () => certifyPrompts(job, stages, removed, rows));
  return context.checkpoint('write', () => publishPlan(job, stages, fits, certified));
}

function checkRequest({ units, lossBudget, flopsSaved, policy }: PruneRequest): void {
  const unknown = units.find((unit) => !(PRUNABLE_UNITS as readonly string[]).includes(unit));
  if (unknown !== undefined) throw invalid(`units: ${unknown}, expected some of ${PRUNABLE_UNITS.join(', ')}`);
  if (!Object.hasOwn(policies, policy)) {
    throw invalid(`policy: ${String(policy)}, expected one of ${Object.keys(policies).join(', ')}`);
  }
  if ((lossBudget === undefined) === (flopsSaved === undefined)) {
    throw invalid('lossBudget, flopsSaved: expected exactly one of the two');
  }
}

/** A job of any task, and the same where it is of images. */
interface OpenJob {
  readonly job: AnyJob;
  readonly images: Job | undefined;
  readonly text: TextJob | undefined;
}

/** Imports the baseline and opens the data; what was imported must not have changed since the job began. */
async function openJob(asked: PruneRequest, context: PruneContext): Promise<OpenJob> {
  // What cannot be done is said before anything is published.
  const original = await openCheckpoint(asked.modelDirectory);
  await checkCheckpoint(original);
  switch (taskOf(original)) {
    case 'image-classification': {
      const request = { ...asked, units: asked.units.length > 0 ? asked.units : ['tokens'] };
      if (request.bits !== undefined || request.units.includes('bits'))
        throw invalid('bits: expected none for a classifier of images, whose weights are float32');
      const data = await openCalibration(original, request);
      const { policy, loss, units } = request;
      if (request.ladder) checkLadder(request, original);
      if (needsLabels(policy, units)) requireLabels(data.dataset, request.data, `policy ${policy}`);
      if (loss === 'cross-entropy') requireLabels(data.dataset, request.data, 'loss cross-entropy');
      const opened = await openBaseline(request, context, original, data);
      const images = { ...opened, task: imageTask(opened) };
      return { job: images, images, text: undefined };
    }
    case 'text-generation': {
      const request = checkTextRequest(asked);
      const data = await openTextCalibration(original, request);
      const opened = await openBaseline(request, context, original, data);
      const text = { ...opened, task: textTask(opened) };
      return { job: text, images: undefined, text };
    }
  }
}

/** Throws INVALID_ARGUMENT for a ladder that the plan could not have. */
function checkLadder({ ladder, policy, units }: PruneRequest, checkpoint: Checkpoint): void {
  if (!units.includes('tokens')) throw invalid('ladder: the units are without tokens, expected them among the units');
  if (policies[policy].rule !== 'merge')
    throw invalid(`ladder: policy ${policy} does not merge tokens, expected one that does`);
  ladderCounts(ladder!, specOf(checkpoint).tokens);
}

/** Fills in which units of a language model may go. Throws INVALID_ARGUMENT for a policy that is of images, or that its units do not have. */
function checkTextRequest(request: PruneRequest): PruneRequest {
  const { policy, units, ladder } = request;
  if (ladder) throw invalid('ladder: expected none for a language model, it is of image classifiers');
  if (!FIXED_POLICIES.includes(policy))
    throw invalid(`policy: ${policy}, expected one of ${FIXED_POLICIES.join(', ')} for heads and neurons`);
  if (units.includes('tokens') && policy !== 'curvature')
    throw invalid(`policy: ${policy}, expected curvature, by which the tokens of prompts are chosen`);
  if (units.includes('tokens') && request.lossBudget === undefined)
    throw invalid('units: tokens: expected a loss budget, since how many tokens of a prompt go is up to the prompt');
  return { ...request, units: units.length > 0 ? units : [...FIXED_KINDS] };
}

async function openBaseline<Data extends SplitData>(
  request: PruneRequest,
  context: PruneContext,
  original: Checkpoint,
  data: Data,
): Promise<Opened<Data>> {
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
  const shards = sharingOf(request, checkpoint, data.dataset, context);
  return { request, context: { ...context, shards }, checkpoint, data, dense: imported.dense };
}
