import { internal } from '../../errors/error.js';
import type { CausalSpec } from '../../models/architectures/gpt-neox.js';
import type { ClassifierSpec } from '../../models/architectures/transformer.js';
import type { Checkpoint } from '../../models/checkpoint.js';
import type { TensorLocation } from '../../models/safetensors.js';

/** A weight of which every unit has so many consecutive rows, or columns. */
export interface UnitTensor {
  readonly name: string;
  readonly width: number;
  /** Absent from some checkpoints, as biases are. */
  readonly optional?: boolean;
}

/** The weights of the units of one kind in one block. */
export interface UnitTensors {
  readonly units: number;
  readonly rows: readonly UnitTensor[];
  readonly columns: readonly UnitTensor[];
}

/** Where the heads and neurons of a network lie, by block. */
export type UnitLayout = readonly { readonly heads: UnitTensors; readonly neurons: UnitTensors }[];

/** A linear layer's rows: its weight and, where it has one, its bias. */
const linear = (name: string, width: number): UnitTensor[] => [
  { name: `${name}.weight`, width },
  { name: `${name}.bias`, width, optional: true },
];

/**
 * Of a vision transformer: a head is its rows of the query, key and value projections and its columns of the output projection; a neuron its
 * row of the first and its column of the second MLP matrix.
 */
export function classifierLayout({ blocks, headWidth, family }: ClassifierSpec): UnitLayout {
  return blocks.map(({ heads, neurons }, block) => {
    const name = `${family.prefix}.encoder.layer.${block}`;
    return {
      heads: {
        units: heads,
        rows: ['query', 'key', 'value'].flatMap((part) => linear(`${name}.attention.attention.${part}`, headWidth)),
        columns: [{ name: `${name}.attention.output.dense.weight`, width: headWidth }],
      },
      neurons: {
        units: neurons,
        rows: linear(`${name}.intermediate.dense`, 1),
        columns: [{ name: `${name}.output.dense.weight`, width: 1 }],
      },
    };
  });
}

/**
 * Of a GPT-NeoX: the rows of a head's query, key and value stand together, head by head (Black et al. 2022; the layout of
 * Megatron-LM's fused projection).
 */
export function causalLayout({ blocks, headWidth, prefix }: CausalSpec): UnitLayout {
  return blocks.map(({ heads, neurons }, block) => {
    const name = `${prefix}.layers.${block}`;
    return {
      heads: {
        units: heads,
        rows: linear(`${name}.attention.query_key_value`, 3 * headWidth),
        columns: [{ name: `${name}.attention.dense.weight`, width: headWidth }],
      },
      neurons: {
        units: neurons,
        rows: linear(`${name}.mlp.dense_h_to_4h`, 1),
        columns: [{ name: `${name}.mlp.dense_4h_to_h.weight`, width: 1 }],
      },
    };
  });
}

/** Where a weight of a layout lies; undefined for an optional one that is not there. */
export function locate(checkpoint: Checkpoint, { name, optional }: UnitTensor): TensorLocation | undefined {
  const location = checkpoint.tensors.get(name);
  if (!location && !optional) throw internal(`${checkpoint.directory}: tensor ${name} is missing`);
  return location;
}
