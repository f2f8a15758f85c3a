import { internal, invalid } from '../errors/error.js';
import type { GraphBuilder } from '../onnx/builder.js';
import type { Tensor, Value } from '../onnx/ir.js';
import { reshape } from '../onnx/ops/index.js';
import { describe } from '../onnx/shapes.js';
import type { Checkpoint } from './checkpoint.js';

/** Where a network finds its weights, by their names in a Hugging Face checkpoint. */
export interface Weights {
  /** Said in errors: the folder or the file. */
  readonly source: string;
  /** The shape of a weight; undefined when there is none of that name. */
  dims(name: string): readonly number[] | undefined;
  /** The weight in a graph, its shape checked; `view` is another shape over the same elements. */
  bind(g: GraphBuilder, name: string, dims: readonly number[], view?: readonly number[]): Value;
}

/** Throws INVALID_ARGUMENT when a weight is missing or has another shape than the architecture says. */
function check(weights: Weights, name: string, expected: readonly number[], source = weights.source): void {
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
      check(weights, name, dims, location?.file);
      const known = replaced.get(name);
      if (known) return g.initializer(name, { ...known, dims: view });
      const { type, file, offset, length } = location!;
      if (type !== 'float32') throw invalid(`${file}: tensor ${name} is ${type}, expected float32`);
      return g.initializer(name, { type, dims: view, data: { kind: 'external', file, offset, length } });
    },
  };
  return weights;
}

/** Weights that are inputs of the graph, as training wants them. `values` maps names to inputs that are there already. */
export function inputWeights(values: ReadonlyMap<string, Value>): Weights {
  const weights: Weights = {
    source: 'the model',
    dims: (name) => values.get(name)?.shape.map(Number),
    bind(g, name, dims, view = dims) {
      check(weights, name, dims);
      const value = values.get(name);
      if (!value) throw internal(`the model has no weight ${name}`);
      return reshape(g, value, view);
    },
  };
  return weights;
}
