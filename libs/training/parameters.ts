/** All weights of a model in one array, so that the optimiser and a saved state are loops over memory. */
import { internal } from '../errors/error.js';
import type { TensorValue } from '../runtime/tensor.js';

export interface WeightShape {
  readonly name: string;
  readonly dims: readonly number[];
}

export interface Parameter extends WeightShape {
  readonly offset: number;
  readonly length: number;
  /** Whether weight decay pulls it to zero: matrices, not biases, norms or embeddings. */
  readonly decayed: boolean;
}

export class Parameters {
  readonly list: readonly Parameter[];
  readonly values: Float32Array;
  private readonly byName: ReadonlyMap<string, Parameter>;

  constructor(weights: readonly WeightShape[]) {
    let offset = 0;
    this.list = weights.map(({ name, dims }) => {
      const length = dims.reduce((product, dim) => product * dim, 1);
      const decayed = dims.length === 2 || dims.length === 4;
      offset += length;
      return { name, dims, offset: offset - length, length, decayed };
    });
    this.values = new Float32Array(offset);
    this.byName = new Map(this.list.map((parameter) => [parameter.name, parameter]));
  }

  find(name: string): Parameter {
    const parameter = this.byName.get(name);
    if (!parameter) throw internal(`the model has no weight ${name}`);
    return parameter;
  }

  /** A view of one weight in an array that is laid out as `values`. */
  view(name: string, array: Float32Array = this.values): Float32Array {
    const { offset, length } = this.find(name);
    return array.subarray(offset, offset + length);
  }

  /** Every weight as a feed of a session. */
  feeds(): Record<string, TensorValue> {
    return Object.fromEntries(
      this.list.map(({ name, dims }) => [name, { type: 'float32', dims, data: this.view(name) } satisfies TensorValue]),
    );
  }
}
