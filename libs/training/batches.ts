/** Batches by step number alone, so that a run that is resumed sees what the uninterrupted one would have. */
import { integerIn, permutation, randomFor } from '../data/random.js';
import type { Region } from '../data/digits.js';
import type { TensorValue } from '../runtime/tensor.js';
import { locateStep, type Recipe } from './recipe.js';
import type { TrainingSource } from './source.js';

export interface TrainingBatch {
  readonly region: Region;
  /** The feeds `pixel_values` and `targets` of every shard. */
  readonly shards: readonly { readonly pixel_values: TensorValue; readonly targets: TensorValue }[];
}

export class Batches {
  private order: { epoch: number; indices: Int32Array } | undefined;

  constructor(
    private readonly recipe: Recipe,
    private readonly source: TrainingSource,
  ) {}

  /** The batch of a step: the next `batch` samples of the epochs' random orders, on the step's region. */
  async at(step: number): Promise<TrainingBatch> {
    const { batch, shards, model, labelSmoothing } = this.recipe;
    const region = this.regionOf(step);
    const samples = await Promise.all(
      Array.from({ length: batch }, (_, place) => {
        const cursor = step * batch + place;
        const epoch = Math.floor(cursor / this.source.size);
        return this.source.read(this.orderOf(epoch)[cursor % this.source.size] as number, epoch, region);
      }),
    );
    const share = batch / shards;
    const stride = model.channels * region.side ** 2;
    return {
      region,
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
  private regionOf(step: number): Region {
    const { model, seed } = this.recipe;
    const { side } = locateStep(this.recipe, step).phase;
    const room = (model.imageSize - side) / model.patchSize;
    const random = randomFor(seed, 0x77696e, step);
    const top = integerIn(random, 0, room) * model.patchSize;
    return { top, left: integerIn(random, 0, room) * model.patchSize, side };
  }

  private orderOf(epoch: number): Int32Array {
    if (this.order?.epoch !== epoch) {
      const random = randomFor(this.recipe.seed, 0x6f72646572, epoch);
      this.order = { epoch, indices: permutation(this.source.size, random) };
    }
    return this.order.indices;
  }
}
