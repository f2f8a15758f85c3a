/** One training step on the runtime: the gradient of a batch, its shards side by side. */
import { internal } from '../errors/error.js';
import { encodeModel } from '../onnx/encode.js';
import type { Runtime, Session } from '../runtime/runtime.js';
import type { TensorValue } from '../runtime/tensor.js';
import type { TrainingBatch } from './batches.js';
import type { Parameters } from './parameters.js';
import type { Recipe } from './recipe.js';
import { gradientGraph, gradientOf } from './step-graph.js';

const positionName = 'vit.embeddings.position_embeddings';

export class Stepper {
  private sessions: { side: number; list: Session[] } | undefined;

  constructor(
    private readonly runtime: Runtime,
    private readonly recipe: Recipe,
    private readonly parameters: Parameters,
  ) {}

  /** The mean loss of the batch; its gradient by all weights goes to `gradient`, laid out as the parameters. */
  async gradient(batch: TrainingBatch, gradient: Float32Array): Promise<number> {
    const sessions = await this.sessionsFor(batch.region.side);
    const rows = this.positionRows(batch);
    const weights = { ...this.parameters.feeds(), [positionName]: this.positions(rows) };
    const results = await Promise.all(
      batch.shards.map((shard, at) => (sessions[at] as Session).run({ ...weights, ...shard })),
    );
    gradient.fill(0);
    let loss = 0;
    const scale = 1 / this.recipe.batch;
    for (const result of results) {
      loss += numbers(result, 'loss')[0] as number;
      for (const { name } of this.parameters.list) {
        const part = numbers(result, gradientOf(name));
        const whole = this.parameters.view(name, gradient);
        if (name === positionName) this.scatter(whole, part, rows, scale);
        else for (let at = 0; at < part.length; at++) whole[at] = (whole[at] as number) + (part[at] as number) * scale;
      }
    }
    return loss * scale;
  }

  async dispose(): Promise<void> {
    const held = this.sessions?.list ?? [];
    this.sessions = undefined;
    await Promise.all(held.map((session) => session.dispose()));
  }

  private async sessionsFor(side: number): Promise<Session[]> {
    if (this.sessions?.side !== side) {
      await this.dispose();
      const { model, batch, shards } = this.recipe;
      const bytes = encodeModel(gradientGraph({ ...model, imageSize: side }, batch / shards));
      // The weights are inputs: there is nothing to pack beforehand.
      const load = () => this.runtime.load(bytes, { prepacking: false });
      this.sessions = { side, list: await Promise.all(Array.from({ length: shards }, load)) };
    }
    return this.sessions.list;
  }

  /** The rows of the position embeddings that a batch uses: the class token's, then those of its window. */
  private positionRows({ region }: TrainingBatch): number[] {
    const { patchSize, imageSize } = this.recipe.model;
    const [grid, side] = [imageSize / patchSize, region.side / patchSize];
    const [top, left] = [region.top / patchSize, region.left / patchSize];
    const window = Array.from({ length: side * side }, (_, at) => {
      return 1 + (top + Math.floor(at / side)) * grid + left + (at % side);
    });
    return [0, ...window];
  }

  private positions(rows: readonly number[]): TensorValue {
    const { hidden } = this.recipe.model;
    const whole = this.parameters.view(positionName);
    const data = new Float32Array(rows.length * hidden);
    rows.forEach((row, at) => data.set(whole.subarray(row * hidden, (row + 1) * hidden), at * hidden));
    return { type: 'float32', dims: [1, rows.length, hidden], data };
  }

  private scatter(whole: Float32Array, part: Float32Array, rows: readonly number[], scale: number): void {
    const { hidden } = this.recipe.model;
    rows.forEach((row, at) => {
      for (let column = 0; column < hidden; column++) {
        const target = row * hidden + column;
        whole[target] = (whole[target] as number) + (part[at * hidden + column] as number) * scale;
      }
    });
  }
}

function numbers(outputs: Record<string, TensorValue>, name: string): Float32Array {
  const data = outputs[name]?.data;
  if (!(data instanceof Float32Array)) throw internal(`the training step gave no ${name}`);
  return data;
}
