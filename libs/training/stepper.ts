/** One training step on the runtime: the gradient of a batch, its shards side by side. */
import { internal } from '../errors/error.js';
import { encodeModel } from '../onnx/encode.js';
import type { Runtime, Session } from '../runtime/runtime.js';
import type { TensorValue } from '../runtime/tensor.js';
import type { Parameter, Parameters } from './parameters.js';
import { gradientOf, type TrainingBatch, type TrainingTask } from './task.js';

export class Stepper {
  private sessions: { phase: number; list: Session[] } | undefined;

  constructor(
    private readonly runtime: Runtime,
    private readonly task: Pick<TrainingTask, 'graph'>,
    private readonly shards: number,
    private readonly parameters: Parameters,
  ) {}

  /** The mean loss of a batch of a phase; its gradient by all weights goes to `gradient`, laid out as the parameters. */
  async gradient(phase: number, batch: TrainingBatch, gradient: Float32Array): Promise<number> {
    const sessions = await this.sessionsFor(phase);
    const weights = this.parameters.feeds();
    for (const [name, rows] of batch.rows ?? []) weights[name] = this.pick(this.parameters.find(name), rows);
    const results = await Promise.all(
      batch.shards.map((shard, at) => (sessions[at] as Session).run({ ...weights, ...shard })),
    );
    gradient.fill(0);
    let loss = 0;
    const scale = 1 / batch.count;
    for (const result of results) {
      loss += numbers(result, 'loss')[0] as number;
      for (const parameter of this.parameters.list) {
        const part = numbers(result, gradientOf(parameter.name));
        const whole = this.parameters.view(parameter.name, gradient);
        const rows = batch.rows?.get(parameter.name);
        if (rows) scatter(parameter, whole, part, rows, scale);
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

  private async sessionsFor(phase: number): Promise<Session[]> {
    if (this.sessions?.phase !== phase) {
      await this.dispose();
      const bytes = encodeModel(this.task.graph(phase));
      // The weights are inputs: there is nothing to pack beforehand.
      const load = () => this.runtime.load(bytes, { prepacking: false });
      this.sessions = { phase, list: await Promise.all(Array.from({ length: this.shards }, load)) };
    }
    return this.sessions.list;
  }

  private pick({ name, dims }: Parameter, rows: readonly number[]): TensorValue {
    const width = dims.at(-1)!;
    const whole = this.parameters.view(name);
    const data = new Float32Array(rows.length * width);
    rows.forEach((row, at) => data.set(whole.subarray(row * width, (row + 1) * width), at * width));
    return { type: 'float32', dims: [1, rows.length, width], data };
  }
}

function scatter(
  { dims }: Parameter,
  whole: Float32Array,
  part: Float32Array,
  rows: readonly number[],
  scale: number,
): void {
  const width = dims.at(-1)!;
  rows.forEach((row, at) => {
    for (let column = 0; column < width; column++) {
      const target = row * width + column;
      whole[target] = (whole[target] as number) + (part[at * width + column] as number) * scale;
    }
  });
}

function numbers(outputs: Record<string, TensorValue>, name: string): Float32Array {
  const data = outputs[name]?.data;
  if (!(data instanceof Float32Array)) throw internal(`the training step gave no ${name}`);
  return data;
}
