/** Training a ViT on images: windows of the input by phase, batches by step number. */
import type { Augmentation } from '../data/augment.js';
import type { Region } from '../data/digits.js';
import { integerIn, permutation, randomFor } from '../data/random.js';
import { invalid } from '../errors/error.js';
import type { ImagePreprocessing } from '../models/preprocessing.js';
import type { Graph } from '../onnx/ir.js';
import { initialiseVit } from './initialise.js';
import type { Parameters, WeightShape } from './parameters.js';
import { locateStep, type Phase, type Recipe } from './recipe.js';
import type { TrainingSource } from './source.js';
import { gradientGraph } from './step-graph.js';
import type { TrainingBatch, TrainingTask } from './task.js';
import { vitWeights, type VitShape } from './vit-graph.js';

/**
 * A stretch of training on square windows of the input. Windows smaller than the image hold a quarter of the tokens, say, and so
 * teach at a quarter of the cost what a part of an image looks like; their place on the grid is drawn anew for every step, and
 * they use the position embeddings of that place.
 */
export interface ImagePhase extends Phase {
  readonly side: number;
}

export interface ImageRecipe extends Recipe {
  readonly model: VitShape;
  readonly preprocessing: ImagePreprocessing;
  readonly phases: readonly ImagePhase[];
  /** The share of the target that is spread over all classes. */
  readonly labelSmoothing: number;
  readonly augmentation: Augmentation;
  /** Of the bundled digits: how much they are turned, scaled and slanted; 0 for not at all. */
  readonly distortion: number;
}

const positionName = 'vit.embeddings.position_embeddings';

export class ImageTask implements TrainingTask {
  readonly digest: string;
  readonly weights: readonly WeightShape[];
  private order: { epoch: number; indices: Int32Array } | undefined;

  /** Throws INVALID_ARGUMENT where a phase has windows that do not fit the model's patches. */
  constructor(
    private readonly recipe: ImageRecipe,
    private readonly source: TrainingSource,
  ) {
    const { model, phases } = recipe;
    for (const { side } of phases) {
      if (side % model.patchSize !== 0 || side > model.imageSize) {
        throw invalid(
          `a phase of the recipe has side ${side}, expected a multiple of ${model.patchSize} up to ${model.imageSize}`,
        );
      }
    }
    this.digest = source.digest;
    this.weights = vitWeights(model);
  }

  initialise(parameters: Parameters): void {
    initialiseVit(parameters, this.recipe.model, this.recipe.seed);
  }

  /** Tokens of one sample, the class token included. */
  cost(phase: number): number {
    const { phases, model } = this.recipe;
    return (phases[phase]!.side / model.patchSize) ** 2 + 1;
  }

  graph(phase: number): Graph {
    const { model, phases, shards } = this.recipe;
    const { side, batch } = phases[phase]!;
    return gradientGraph({ ...model, imageSize: side }, batch / shards);
  }

  /** The next samples of the epochs' random orders, on the step's region. */
  async batch(step: number): Promise<TrainingBatch> {
    const { shards, model, labelSmoothing, phases } = this.recipe;
    const place = locateStep(this.recipe, step, (phase) => this.cost(phase));
    const { side, batch } = phases[place.phase]!;
    const region = this.regionOf(step, side);
    const first =
      phases.slice(0, place.phase).reduce((sum, { steps, batch }) => sum + steps * batch, 0) + place.samples;
    const samples = await Promise.all(
      Array.from({ length: batch }, (_, at) => {
        const cursor = first + at;
        const epoch = Math.floor(cursor / this.source.size);
        return this.source.read(this.orderOf(epoch)[cursor % this.source.size] as number, epoch, region);
      }),
    );
    const share = batch / shards;
    const stride = model.channels * region.side ** 2;
    return {
      count: batch,
      rows: new Map([[positionName, this.positionRows(region)]]),
      shards: Array.from({ length: shards }, (_, shard) => {
        const pixels = new Float32Array(share * stride);
        const targets = new Float32Array(share * model.classes).fill(labelSmoothing / model.classes);
        samples.slice(shard * share, (shard + 1) * share).forEach((sample, row) => {
          pixels.set(sample.pixels, row * stride);
          targets[row * model.classes + sample.label] = 1 - labelSmoothing + labelSmoothing / model.classes;
        });
        return {
          pixel_values: { type: 'float32', dims: [share, model.channels, region.side, region.side], data: pixels },
          targets: { type: 'float32', dims: [share, model.classes], data: targets },
        };
      }),
    };
  }

  /** Where on the grid of patches the window of a step lies. */
  private regionOf(step: number, side: number): Region {
    const { model, seed } = this.recipe;
    const room = (model.imageSize - side) / model.patchSize;
    const random = randomFor(seed, 0x77696e, step);
    const top = integerIn(random, 0, room) * model.patchSize;
    return { top, left: integerIn(random, 0, room) * model.patchSize, side };
  }

  /** The rows of the position embeddings that a window uses: the class token's, then those of its patches. */
  private positionRows(region: Region): number[] {
    const { patchSize, imageSize } = this.recipe.model;
    const [grid, side] = [imageSize / patchSize, region.side / patchSize];
    const [top, left] = [region.top / patchSize, region.left / patchSize];
    const window = Array.from({ length: side * side }, (_, at) => {
      return 1 + (top + Math.floor(at / side)) * grid + left + (at % side);
    });
    return [0, ...window];
  }

  private orderOf(epoch: number): Int32Array {
    if (this.order?.epoch !== epoch) {
      const random = randomFor(this.recipe.seed, 0x6f72646572, epoch);
      this.order = { epoch, indices: permutation(this.source.size, random) };
    }
    return this.order.indices;
  }
}
