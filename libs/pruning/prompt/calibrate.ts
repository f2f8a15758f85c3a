import type { TextSamples } from '../../curvature/prompt-curvature.js';
import { readTokens } from '../../data/text/dataset.js';
import { HeartwoodError } from '../../errors/error.js';
import type { Checkpoint } from '../../models/checkpoint.js';
import { causalSpecOf } from '../../models/causal-lm.js';
import { generationGraph, generationSymbols } from '../../models/generation-graph.js';
import type { Weights } from '../../models/weights.js';
import type { GraphBuilder } from '../../onnx/builder.js';
import { countFlops } from '../../onnx/flops.js';
import type { Graph } from '../../onnx/ir.js';
import { loadGraph } from '../../runtime/load-graph.js';
import type { Runtime, Session } from '../../runtime/runtime.js';
import type { TensorValue } from '../../runtime/tensor.js';
import { argmax, klDivergence, logSoftmax } from '../measure/divergence.js';
import { meanOf, type LossMeasures } from '../measure/measure.js';
import type { BudgetRow } from '../stages/budget.js';
import { quantile } from '../statistics/quantiles.js';
import type { PromptStage } from './parameters.js';
import { replay, type Replay } from './replay.js';
import { measuredGeneration, promptNames, type ServedGeneration } from './served-graph.js';

/** How windows become prompts and what follows them. */
export interface PromptCut {
  /** Tokens of a window that are its prompt. */
  readonly prompt: number;
  /** Tokens of one run of it, as the server runs them. */
  readonly chunk: number;
}

/** Windows with the answers of the unpruned model to what follows the prompts. */
export interface PreparedPrompts {
  readonly windows: readonly { readonly ids: BigInt64Array; readonly document: number }[];
  /** By window and answer, log probabilities. */
  readonly dense: readonly (readonly Float64Array[])[];
}

/** What dropping prompt tokens does, by document. */
export interface PromptMeasures extends LossMeasures {
  /** Mean tokens of a prompt that each stage let on. */
  readonly kept: readonly number[];
  /** FLOPs of a prompt, at the mean of what was kept. */
  readonly flops: number;
  /** Milliseconds of a prompt in the worker, mean. */
  readonly prefillMs: number;
}

/** Windows, with the answers of a network that drops nothing: the unpruned one. */
export async function preparePrompts(
  runtime: Runtime,
  checkpoint: Checkpoint,
  weights: (g: GraphBuilder) => Weights,
  { dataset, indices }: TextSamples,
  cut: PromptCut,
  context: {
    readonly workDirectory: string;
    readonly signal: AbortSignal;
    progress?(done: number, total: number): void;
  },
): Promise<PreparedPrompts> {
  const graph = generationGraph(checkpoint, { weights });
  const { vocabulary } = causalSpecOf(checkpoint);
  const session = await loadGraph(runtime, graph, context.workDirectory);
  const windows: PreparedPrompts['windows'][number][] = [];
  const dense: Float64Array[][] = [];
  try {
    for (const index of indices) {
      context.signal.throwIfAborted();
      const { ids, documents } = await readTokens(dataset, [index]);
      windows.push({ ids, document: documents[0]! });
      dense.push(logProbabilities((await replay(session, graph.caches, ids, cut)).logits, vocabulary));
      context.progress?.(windows.length, indices.length);
    }
  } finally {
    await session.dispose();
  }
  return { windows, dense };
}

function logProbabilities(logits: Float32Array, vocabulary: number): Float64Array[] {
  return Array.from({ length: logits.length / vocabulary }, (_, row) => logSoftmax(logits, row, vocabulary));
}

/** A generation graph with stages whose thresholds are still open, ready to be measured. */
export class PromptNetwork {
  private constructor(
    private readonly session: Session,
    private readonly served: ServedGeneration,
    readonly stages: readonly PromptStage[],
    private readonly vocabulary: number,
    readonly cut: PromptCut,
  ) {}

  static async open(
    runtime: Runtime,
    checkpoint: Checkpoint,
    weights: (g: GraphBuilder) => Weights,
    stages: readonly PromptStage[],
    cut: PromptCut,
    workDirectory: string,
  ): Promise<PromptNetwork> {
    const served = measuredGeneration(checkpoint, weights, stages);
    const session = await loadGraph(runtime, served.graph, workDirectory);
    return new PromptNetwork(session, served, stages, causalSpecOf(checkpoint).vocabulary, cut);
  }

  /** What the network loses at some thresholds, one for each stage. */
  async measure(
    prepared: PreparedPrompts,
    thresholds: readonly number[],
    signal: AbortSignal,
  ): Promise<PromptMeasures> {
    const byDocument = new Map<number, Totals>();
    const kept = this.stages.map(() => 0);
    let prefillMs = 0;
    for (const [at, { ids, document }] of prepared.windows.entries()) {
      signal.throwIfAborted();
      const run = await this.run(ids, thresholds);
      run.kept.forEach((count, stage) => (kept[stage]! += count / prepared.windows.length));
      prefillMs += run.prefillMs / prepared.windows.length;
      const totals = byDocument.get(document) ?? new Totals();
      byDocument.set(document, totals);
      totals.add(prepared.dense[at]!, logProbabilities(run.logits, this.vocabulary), ids.subarray(this.cut.prompt));
    }
    const all = [...byDocument.values()];
    const column = (of: (totals: Totals) => number) => Float64Array.from(all, of);
    return {
      kl: column((totals) => totals.kl / totals.answers),
      weights: column((totals) => totals.answers),
      denseLoss: column((totals) => totals.denseLoss / totals.labels),
      prunedLoss: column((totals) => totals.prunedLoss / totals.labels),
      crossEntropyRise: column((totals) => (totals.prunedLoss - totals.denseLoss) / totals.labels),
      denseCorrect: column((totals) => totals.denseCorrect / totals.labels),
      prunedCorrect: column((totals) => totals.prunedCorrect / totals.labels),
      kept,
      flops: this.flops(kept),
      prefillMs,
    };
  }

  /**
   * The thresholds at which each stage drops its share of the tokens that come to it, over all prompts together: how many of one prompt
   * go is up to the prompt.
   */
  async placeThresholds(prepared: PreparedPrompts, shares: readonly number[], signal: AbortSignal): Promise<number[]> {
    const thresholds = this.stages.map(() => -Infinity);
    for (const [stage, share] of shares.entries()) {
      const scores: number[] = [];
      for (const { ids } of prepared.windows) {
        signal.throwIfAborted();
        scores.push(...(await this.prefill(ids, thresholds)).scores[stage]!);
      }
      thresholds[stage] = quantile(scores, share);
    }
    return thresholds;
  }

  /** One prompt by itself. */
  prefill(ids: BigInt64Array, thresholds: readonly number[]): Promise<Replay> {
    return this.run(ids, thresholds, true);
  }

  /** FLOPs of a prompt that one more token adds between each stage and the next. */
  slopes(): number[] {
    const all = this.stages.map(() => this.cut.prompt);
    return all.map((count, stage) => this.flops(all) - this.flops(all.with(stage, count - 1)));
  }

  /** FLOPs of a prompt whose stages let so many tokens on; every token is counted as seeing half of what its block holds. */
  flops(kept: readonly number[]): number {
    return promptFlops(this.served.graph, this.cut.prompt, this.stages, kept);
  }

  dispose(): Promise<void> {
    return this.session.dispose();
  }

  private run(ids: BigInt64Array, thresholds: readonly number[], promptAlone = false): Promise<Replay> {
    const data = Float32Array.from(thresholds);
    const given: TensorValue = { type: 'float32', dims: [1, thresholds.length], data };
    const feeds = { [promptNames.thresholds]: given };
    return replay(this.session, this.served.caches, ids, { ...this.cut, feeds, promptAlone });
  }
}

/** Sums over the predictions of one document. */
class Totals {
  kl = 0;
  answers = 0;
  denseLoss = 0;
  prunedLoss = 0;
  labels = 0;
  denseCorrect = 0;
  prunedCorrect = 0;

  /** `following` are the tokens after the prompt: the label of an answer is the token after it, which the last one lacks. */
  add(dense: readonly Float64Array[], pruned: readonly Float64Array[], following: BigInt64Array): void {
    for (const [at, logP] of dense.entries()) {
      const logQ = pruned[at]!;
      this.kl += klDivergence(logP, logQ);
      this.answers++;
      if (at >= following.length) continue;
      const label = Number(following[at]);
      this.denseLoss -= logP[label]!;
      this.prunedLoss -= logQ[label]!;
      this.labels++;
      if (argmax(logP) === label) this.denseCorrect++;
      if (argmax(logQ) === label) this.prunedCorrect++;
    }
  }
}

function promptFlops(graph: Graph, prompt: number, stages: readonly PromptStage[], kept: readonly number[]): number {
  const { batch, length, wanted, capacity } = generationSymbols;
  const symbols: Record<string, number> = { [batch]: 1, [length]: prompt, [wanted]: 1, [capacity]: (prompt + 1) / 2 };
  stages.forEach(({ block }, stage) => (symbols[`kept_${block}`] = kept[stage]!));
  return countFlops(graph, symbols).total;
}

/** One row of the table, and what else the searched documents say of it. */
export interface PromptRow extends BudgetRow {
  readonly crossEntropyRise: number;
  /** Mean tokens of a prompt that each stage let on. */
  readonly kept: readonly number[];
}

/** Shares of a prompt's tokens that the last stage is to have lost, each a row of the table. */
export const promptShares = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9] as const;

/**
 * Measures a row for each share on documents that are for searching; every stage drops the same part of what comes to it. Throws
 * FAILED_PRECONDITION where nothing can be dropped.
 */
export async function measurePromptRows(
  network: PromptNetwork,
  prepared: PreparedPrompts,
  context: { readonly signal: AbortSignal; progress(done: number, total: number): void },
  shares: readonly number[] = promptShares,
): Promise<PromptRow[]> {
  const dense = network.flops(network.stages.map(() => network.cut.prompt));
  const rows: PromptRow[] = [];
  for (const [at, share] of shares.entries()) {
    const each = 1 - (1 - share) ** (1 / network.stages.length);
    const placed = await network.placeThresholds(
      prepared,
      network.stages.map(() => each),
      context.signal,
    );
    const measured = await network.measure(prepared, placed, context.signal);
    const { kl, weights, crossEntropyRise, kept, flops } = measured;
    rows.push({
      flopsSaved: 1 - flops / dense,
      kl: meanOf(kl, weights),
      thresholds: placed,
      crossEntropyRise: meanOf(crossEntropyRise!, weights),
      kept,
    });
    context.progress(at + 1, shares.length);
  }
  if (!rows.some(({ flopsSaved }) => flopsSaved > 0)) {
    throw new HeartwoodError('FAILED_PRECONDITION', 'the prompts are too short for any of their tokens to be dropped');
  }
  return rows;
}
