import { dirname } from 'node:path';
import { internal, invalid } from '../errors/error.js';
import type { GraphBuilder } from '../onnx/builder.js';
import type { Tensor, Value } from '../onnx/ir.js';
import { reshape } from '../onnx/ops/index.js';
import { describe } from '../onnx/shapes.js';
import type { Checkpoint } from './checkpoint.js';
import { bindQuantised, type Matrix, type QuantisedTensors } from './quantisation/matrix.js';

/** Where a network finds its weights, by their names in a Hugging Face checkpoint. */
export interface Weights {
  /** Said in errors: the folder or the file. */
  readonly source: string;
  /** The shape of a weight; undefined when there is none of that name. */
  dims(name: string): readonly number[] | undefined;
  /** The weight in a graph, its shape checked; `view` is another shape over the same elements. */
  bind(g: GraphBuilder, name: string, dims: readonly number[], view?: readonly number[]): Value;
  /** The weight [out, in] of a linear layer, which may be quantised. */
  matrix(g: GraphBuilder, name: string, dims: readonly number[]): Matrix;
}

/** Throws INVALID_ARGUMENT when a weight is missing or has another shape than the architecture says. */
export function checkWeight(weights: Pick<Weights, 'source' | 'dims'>, name: string, expected: readonly number[], source = weights.source): void {
  const dims = weights.dims(name);
  if (!dims) throw invalid(`${source}: tensor ${name} is missing, expected ${describe(expected)}`);
  if (dims.length !== expected.length || dims.some((dim, i) => dim !== expected[i])) {
    throw invalid(`${source}: tensor ${name} has the shape ${describe(dims)}, expected ${describe(expected)}`);
  }
}

/**
 * The weights of a checkpoint as initializers that point into its safetensors file. `replaced` holds the tensors that pruning has
 * made smaller. Every weight must be float32 (see `asFloat32`).
 */
export function checkpointWeights(checkpoint: Checkpoint, replaced: ReadonlyMap<string, Tensor> = new Map()): Weights {
  const weights: Weights = {
    source: checkpoint.directory,
    dims: (name) => replaced.get(name)?.dims ?? checkpoint.tensors.get(name)?.shape,
    bind(g, name, dims, view = dims) {
      const location = checkpoint.tensors.get(name);
      // A copy in float32 elsewhere is not what the user has.
      const own = location !== undefined && dirname(location.file) === checkpoint.directory;
      checkWeight(weights, name, dims, own ? location.file : weights.source);
      const known = replaced.get(name);
      if (known) return g.initializer(name, { ...known, dims: view });
      const { type, file, offset, length } = location!;
      if (type !== 'float32') throw invalid(`${file}: tensor ${name} is ${type}, expected float32`);
      return g.initializer(name, { type, dims: view, data: { kind: 'external', file, offset, length } });
    },
    matrix: (g, name, dims) => weights.bind(g, name, dims),
  };
  return weights;
}

/** Weights that are inputs of the graph, as training wants them. `values` maps names to inputs that are there already. */
export function inputWeights(values: ReadonlyMap<string, Value>): Weights {
  const weights: Weights = {
    source: 'the model',
    dims: (name) => values.get(name)?.shape.map(Number),
    bind(g, name, dims, view = dims) {
      checkWeight(weights, name, dims);
      const value = values.get(name);
      if (!value) throw internal(`the model has no weight ${name}`);
      return reshape(g, value, view);
    },
    matrix: (g, name, dims) => weights.bind(g, name, dims),
  };
  return weights;
}

/** Weights of which some matrices are quantised. */
export function quantisedWeights(weights: Weights, quantised: ReadonlyMap<string, QuantisedTensors>): Weights {
  return {
    ...weights,
    dims(name) {
      const known = quantised.get(name);
      return known ? [known.rows, known.columns] : weights.dims(name);
    },
    matrix(g, name, dims) {
      const known = quantised.get(name);
      if (!known) return weights.matrix(g, name, dims);
      if (known.rows !== dims[0] || known.columns !== dims[1]) {
        const found = describe([known.rows, known.columns]);
        throw invalid(`${weights.source}: quantised matrix ${name} has the shape ${found}, expected ${describe(dims)}`);
      }
      return bindQuantised(g, name, known);
    },
  };
}
