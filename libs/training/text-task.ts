/** Training a GPT-NeoX on text: windows of a stream of documents, batches by step number. */
import { createHash } from 'node:crypto';
import { integerIn, permutation, randomFor } from '../data/random.js';
import type { TokenDocument } from '../data/text/dataset.js';
import { invalid } from '../errors/error.js';
import type { Graph } from '../onnx/ir.js';
import type { TensorValue } from '../runtime/tensor.js';
import { causalGradientGraph, causalWeights, type CausalShape } from './causal-graph.js';
import { initialiseCausal } from './initialise.js';
import type { Parameters, WeightShape } from './parameters.js';
import { locateStep, type Phase, type Recipe } from './recipe.js';
import type { TrainingBatch, TrainingTask } from './task.js';

/** A stretch of training on windows of so many tokens. */
export interface TextPhase extends Phase {
  readonly positions: number;
}

export interface TextRecipe extends Recipe {
  readonly model: CausalShape;
  readonly phases: readonly TextPhase[];
}

export class TextTask implements TrainingTask {
  readonly digest: string;
  readonly weights: readonly WeightShape[];
  /** All documents, the mark before each of them. */
  private readonly stream: Int32Array;
  private epoch: { key: string; starts: Int32Array } | undefined;

  /** Throws INVALID_ARGUMENT where a phase has windows longer than the model's context or than the text. */
  constructor(
    private readonly recipe: TextRecipe,
    documents: readonly TokenDocument[],
    endOfText: number,
  ) {
    const length = documents.reduce((sum, { ids }) => sum + ids.length + 1, 0);
    for (const { positions } of recipe.phases) {
      const most = Math.min(recipe.model.context, Math.floor((length - 1) / 2));
      if (positions > most)
        throw invalid(`a phase of the recipe has windows of ${positions} tokens, expected at most ${most}`);
    }
    this.stream = new Int32Array(length);
    let at = 0;
    for (const { ids } of documents) {
      this.stream[at] = endOfText;
      this.stream.set(ids, at + 1);
      at += ids.length + 1;
    }
    this.digest = createHash('sha256').update(this.stream).digest('hex');
    this.weights = causalWeights(recipe.model);
  }

  initialise(parameters: Parameters): void {
    initialiseCausal(parameters, this.recipe.model, this.recipe.seed);
  }

  /** Tokens of a step. */
  cost(phase: number): number {
    const { positions, batch } = this.recipe.phases[phase]!;
    return positions * batch;
  }

  graph(phase: number): Graph {
    const { model, phases, shards } = this.recipe;
    const { positions, batch } = phases[phase]!;
    return causalGradientGraph(model, batch / shards, positions);
  }

  batch(step: number): Promise<TrainingBatch> {
    const { shards, phases } = this.recipe;
    const { phase, samples } = locateStep(this.recipe, step, (phase) => this.cost(phase));
    const { positions, batch } = phases[phase]!;
    const starts = Array.from({ length: batch }, (_, at) => this.startOf(phase, samples + at));
    const share = batch / shards;
    return Promise.resolve({
      count: batch * positions,
      shards: Array.from({ length: shards }, (_, shard) => {
        const own = starts.slice(shard * share, (shard + 1) * share);
        return { input_ids: this.windows(own, positions, 0), targets: this.windows(own, positions, 1) };
      }),
    });
  }

  /** Windows [n, positions] of the stream, so many tokens on. */
  private windows(starts: readonly number[], positions: number, shift: number): TensorValue {
    const data = new BigInt64Array(starts.length * positions);
    starts.forEach((start, row) => {
      for (let at = 0; at < positions; at++) data[row * positions + at] = BigInt(this.stream[start + shift + at]!);
    });
    return { type: 'int64', dims: [starts.length, positions], data };
  }

  /** Where a sample of a phase starts: an epoch cuts the stream from a random place on into windows, in a random order. */
  private startOf(phase: number, sample: number): number {
    const { seed, phases } = this.recipe;
    const { positions } = phases[phase]!;
    // Every window is one short of the longest offset, so that all epochs have as many.
    const count = Math.floor((this.stream.length - positions) / positions);
    const epoch = Math.floor(sample / count);
    const key = `${phase} ${epoch}`;
    if (this.epoch?.key !== key) {
      const random = randomFor(seed, 0x74657874, phase, epoch);
      const offset = integerIn(random, 0, positions - 1);
      this.epoch = { key, starts: permutation(count, random).map((place) => offset + place * positions) };
    }
    return this.epoch.starts[sample % count]!;
  }
}
