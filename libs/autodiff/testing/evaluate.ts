import { xoroshiro128plus } from 'pure-rand/generator/xoroshiro128plus';
import { uniformInt } from 'pure-rand/distribution/uniformInt';
import { encodeModel } from '../../onnx/write.js';
import type { Graph, Value } from '../../onnx/ir.js';
import { createRuntime, type Runtime } from '../../runtime/runtime.js';
import type { TensorValue } from '../../runtime/tensor.js';

/** A tensor as plain numbers, row major. */
export interface Numbers {
  readonly dims: readonly number[];
  readonly values: readonly number[];
}

/** A graph as a function of plain numbers, by the names of its inputs and outputs. */
export type Evaluate = (inputs: Readonly<Record<string, Numbers>>) => Promise<Record<string, Numbers>>;

/** Runs graphs on one thread, without the runtime's optimisations unless asked: what is tested is the graph as it was built. */
export class Evaluator {
  readonly #runtime: Runtime = createRuntime({ workers: 1, threads: 1 });

  async load(graph: Graph, optimization: 'disabled' | 'all' = 'disabled'): Promise<Evaluate> {
    const session = await this.#runtime.load(encodeModel(graph), { optimization });
    const types = new Map(graph.inputs.map((v) => [v.name, v.type]));
    return async (inputs) => {
      const feeds: Record<string, TensorValue> = {};
      for (const [name, { dims, values }] of Object.entries(inputs)) {
        const double = types.get(name) === 'float64';
        feeds[name] = {
          type: double ? 'float64' : 'float32',
          dims,
          data: double ? Float64Array.from(values) : Float32Array.from(values),
        };
      }
      const results = await session.run(feeds);
      return Object.fromEntries(
        Object.entries(results).map(([name, { dims, data }]) => [name, { dims, values: Array.from(data, Number) }]),
      );
    };
  }

  close(): Promise<void> {
    return this.#runtime.close();
  }
}

/** Seeded numbers, evenly distributed in [low, high). */
export function draws(seed: number): (count: number, low?: number, high?: number) => number[] {
  const random = xoroshiro128plus(seed);
  return (count, low = -1, high = 1) =>
    Array.from({ length: count }, () => low + ((high - low) * uniformInt(random, 0, 0x7ffffffe)) / 0x7fffffff);
}

/** The numbers of a shape, symbols bound by the map. */
export function boundDims(value: Value, symbols: Readonly<Record<string, number>> = {}): number[] {
  return value.shape.map((dim) => (typeof dim === 'number' ? dim : symbols[dim]!));
}

export const countOf = (dims: readonly number[]): number => dims.reduce((a, b) => a * b, 1);

/** x + t v */
export function moved(x: Numbers, v: Numbers, t: number): Numbers {
  return { dims: x.dims, values: x.values.map((a, i) => a + t * v.values[i]!) };
}

/** (a − b) / (2 t): a central difference from both ends. */
export function centralDifference(a: Numbers, b: Numbers, t: number): Numbers {
  return { dims: a.dims, values: a.values.map((value, i) => (value - b.values[i]!) / (2 * t)) };
}

export function dot(a: Numbers, b: Numbers): number {
  return a.values.reduce((total, value, i) => total + value * b.values[i]!, 0);
}

/** ‖a − b‖ / max(‖b‖, floor), infinite where the shapes differ or something is not a number. */
export function distance(a: Numbers, b: Numbers, floor = 1e-2): number {
  if (a.dims.join() !== b.dims.join()) return Infinity;
  const gap = Math.sqrt(a.values.reduce((total, value, i) => total + (value - b.values[i]!) ** 2, 0));
  const size = Math.sqrt(dot(b, b));
  return Number.isFinite(gap) ? gap / Math.max(size, floor) : Infinity;
}
