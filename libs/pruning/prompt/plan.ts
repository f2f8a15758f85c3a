/** Prompt tokens as units of a language model's plan: predictors fitted, budgets searched, one certified, each on documents of its own. */
import { promptCurvature } from '../../curvature/prompt-curvature.js';
import { HeartwoodError } from '../../errors/error.js';
import { causalSpecOf } from '../../models/causal-lm.js';
import { generationGraph, generationSymbols } from '../../models/generation-graph.js';
import { packAttention } from '../../models/packed-attention.js';
import { checkpointWeights } from '../../models/weights.js';
import { countFlops } from '../../onnx/flops.js';
import type { Segment } from '../../store/segments.js';
import { certifyBudget, type CertifyOptions } from '../calibration/certify.js';
import { predictedAt, type CertifiedPlan } from '../calibration/search.js';
import type { Opened } from '../job.js';
import type { FixedPlan } from '../plan.js';
import type { Fit } from '../policies/policy.js';
import { budgetTable } from '../statistics/thresholds.js';
import type { PruningTask } from '../tasks/task.js';
import { textWeights } from '../tasks/text.js';
import { costWindow, textCost } from '../text/cost.js';
import type { TextCalibration } from '../text/data.js';
import { measurePromptRows, preparePrompts, PromptNetwork, type PromptCut, type PromptRow } from './calibrate.js';
import { fitPromptStages } from './fit.js';
import { type PromptStage, promptOfWindow, servedChunk } from './parameters.js';
import { stageBlocks } from './schedule.js';

/** A pruning job of a language model. */
export type TextJob = Opened<TextCalibration> & { readonly task: PruningTask };

/** Windows of a part that are run one by one, at most: each row of the table runs all of them several times. */
const mostWindows = 96;

/** Fits the stages of a language model's prompts on the documents that are for fitting. */
export async function fitPrompts({
  checkpoint,
  context,
  data,
  request,
}: TextJob): Promise<{ readonly stages: readonly PromptStage[]; readonly fits: readonly Fit[] }> {
  const blocks = stageBlocks(causalSpecOf(checkpoint).blocks.length);
  if (blocks.length === 0)
    throw new HeartwoodError('FAILED_PRECONDITION', 'units: tokens: the model has one block, expected two or more');
  const targets = await context.checkpoint('score', () =>
    promptCurvature(
      checkpoint,
      { dataset: data.dataset, indices: data.parts.fit },
      { blocks, seed: request.seed },
      { ...context, progress: (event) => context.progress({ ...event, stage: 'score' }) },
    ),
  );
  return context.checkpoint('predictor', () =>
    fitPromptStages(context.runtime, targets, {
      chunk: servedChunk,
      seed: request.seed,
      signal: context.signal,
      progress: (done, total) => context.progress({ stage: 'predictor', done, total, unit: 'steps' }),
    }),
  );
}

/** What the searched documents say of dropping prompt tokens, beside what is gone for good. */
export async function searchPrompts(
  job: TextJob,
  stages: readonly PromptStage[],
  removed: FixedPlan | null,
): Promise<PromptRow[]> {
  return withPrompts(job, stages, removed, 'search', (network, prepared) =>
    measurePromptRows(network, prepared, {
      signal: job.context.signal,
      progress: (done, total) => job.context.progress({ stage: 'search', done, total, unit: 'rows' }),
    }),
  );
}

/**
 * The plan whose prompts keep within the budget on documents that nothing else has seen, what is gone for good included. Throws
 * FAILED_PRECONDITION when the budget cannot be met.
 */
export async function certifyPrompts(
  job: TextJob,
  stages: readonly PromptStage[],
  removed: FixedPlan | null,
  rows: readonly PromptRow[],
): Promise<CertifiedPlan> {
  const { loss, confidence, seed, lossBudget } = job.request;
  const budget = lossBudget ?? 0;
  const table = budgetTable(rows);
  return withPrompts(job, stages, removed, 'certify', async (network, prepared) => {
    const { signal } = job.context;
    const options: CertifyOptions = {
      loss,
      confidence,
      seed,
      counted: job.task.counted,
      signal,
      progress: (done, total) => job.context.progress({ stage: 'certify', done, total, unit: 'budgets' }),
    };
    const segments = await segmentsOf(job, network, removed);
    const perToken = (kept: readonly number[]) =>
      segments.reduce((sum, { constant, linear }, at) => sum + constant + linear * (kept[at - 1] ?? 0), 0) /
      costWindow(causalSpecOf(job.checkpoint));
    const measureAt = async (thresholds: readonly number[]) => {
      const losses = await network.measure(prepared, thresholds, signal);
      return { losses, flops: perToken(losses.kept) };
    };
    const passed = await certifyBudget(measureAt, table, budget, options);
    const { flops } = passed.certificate;
    if (flops >= job.dense && !removed?.bits) {
      const cost = `the pruned model would take ${Math.round(flops)} FLOPs a token, the unpruned one takes ${job.dense}`;
      throw new HeartwoodError('FAILED_PRECONDITION', `a loss budget of ${budget} nats saves nothing: ${cost}`);
    }
    return {
      removed,
      table: { ...table, scale: budget > 0 ? passed.asked / budget : 1 },
      segments,
      certificate: { ...passed.certificate, budget, predicted: predictedAt(rows, passed.asked, 'kl', removed) },
    };
  });
}

/**
 * What a window costs, by what its stages let on of its prompt: the first segment holds all that does not vary, each other one what a token
 * adds that goes on from its stage.
 */
async function segmentsOf(
  { checkpoint, context }: TextJob,
  network: PromptNetwork,
  removed: FixedPlan | null,
): Promise<Segment[]> {
  const weights = await textWeights(checkpoint, removed, 'generation', context.workDirectory);
  const spec = causalSpecOf(checkpoint, weights);
  const { prompt } = network.cut;
  const { batch, length, wanted, capacity } = generationSymbols;
  const plain = countFlops(generationGraph(checkpoint, { weights: () => weights }), {
    [batch]: 1,
    [length]: prompt,
    [wanted]: 1,
    [capacity]: (prompt + 1) / 2,
  }).total;
  const slopes = network.slopes();
  const all = network.stages.map(() => prompt);
  const stagesThemselves = network.flops(all) - plain;
  const varying = slopes.reduce((sum, slope) => sum + slope * prompt, 0);
  const window = textCost(spec, removed?.bits).flops * costWindow(spec);
  const segment = (constant: number, linear: number): Segment => ({ constant, linear, quadratic: 0 });
  return [segment(window + stagesThemselves - varying, 0), ...slopes.map((slope) => segment(0, slope))];
}

/** Opens the network that is to be served, and one part of the data with the unpruned model's answers; frees them after the work. */
async function withPrompts<T>(
  { checkpoint, context, data }: TextJob,
  stages: readonly PromptStage[],
  removed: FixedPlan | null,
  part: 'search' | 'certify',
  work: (network: PromptNetwork, prepared: Awaited<ReturnType<typeof preparePrompts>>) => Promise<T>,
): Promise<T> {
  const { runtime, workDirectory, signal } = context;
  const { positions } = data.dataset;
  const cut: PromptCut = { prompt: promptOfWindow(positions), chunk: servedChunk };
  const indices = spread(data.parts[part], mostWindows, (index) => data.dataset.documentOf(index));
  const dense = await packAttention(checkpoint, workDirectory);
  const prepared = await preparePrompts(
    runtime,
    checkpoint,
    () => checkpointWeights(checkpoint, dense),
    { dataset: data.dataset, indices },
    cut,
    {
      workDirectory,
      signal,
      progress: (done, total) => context.progress({ stage: part, done, total, unit: 'windows' }),
    },
  );
  const weights = await textWeights(checkpoint, removed, 'generation', workDirectory);
  const network = await PromptNetwork.open(runtime, checkpoint, () => weights, stages, cut, workDirectory);
  try {
    return await work(network, prepared);
  } finally {
    await network.dispose();
  }
}

/** At most so many of the windows, from as many documents as there are: a bound is only as good as its documents are many. */
function spread(indices: readonly number[], most: number, documentOf: (index: number) => number): number[] {
  const seen = new Map<number, number>();
  const turns = indices.map((index) => {
    const turn = seen.get(documentOf(index)) ?? 0;
    seen.set(documentOf(index), turn + 1);
    return { index, turn };
  });
  return turns
    .sort((a, b) => a.turn - b.turn)
    .slice(0, most)
    .map(({ index }) => index);
}
