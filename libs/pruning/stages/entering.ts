import { padTokens, type Seam } from '../../models/tokens.js';
import type { GraphBuilder } from '../../onnx/builder.js';
import type { Dim, Value } from '../../onnx/ir.js';
import {
  and,
  cast,
  dimOf,
  div,
  greaterOrEqual,
  less,
  greater,
  matMul,
  mul,
  range,
  reduceSum,
  reshape,
  slice,
  squeeze,
  unsqueeze,
} from '../../onnx/ops/index.js';
import { fixed } from '../../onnx/shapes.js';
import { floatTensor } from '../../onnx/tensor.js';

/**
 * The tokens as they enter a stage, in the padded view [batch, longest] that it decides in. The tokens of a sample are its first
 * `count` places. Where nothing has been merged yet what is the same for every sample has a batch of 1.
 */
export interface Entering {
  readonly seam: Seam;
  readonly longest: Dim;
  /** D. */
  readonly width: number;
  readonly special: number;
  /** True while every sample has all of its tokens, of mass 1. */
  readonly uniform: boolean;
  /** int64 [longest]: 0, 1, … */
  readonly places: Value;
  /** int64 [batch | 1, 1]: tokens present, special ones included. */
  readonly count: Value;
  /** [batch | 1, longest]: 0 where there is none. */
  readonly mass: Value;
  /** bool [batch | 1, longest]. */
  readonly present: Value;
  /** bool [batch | 1, longest]: present and not special. */
  readonly patches: Value;
}

export function entering(g: GraphBuilder, seam: Seam): Entering {
  const { layout, rows } = seam.tokens;
  const { longest, special, packed } = layout;
  const width = fixed(rows.shape[1], 'the width of a token');
  const common = { seam, longest, width, special };
  if (!packed) {
    const tokens = fixed(longest, 'the number of tokens of a uniform layout');
    const places = g.integers([...Array(tokens).keys()]);
    const count = g.integers([tokens], [1, 1]);
    const present = less(g, places, count);
    const patches = and(g, present, greaterOrEqual(g, places, g.integers(special)));
    const mass = g.constant(Array<number>(tokens).fill(1), [1, tokens]);
    return { ...common, uniform: true, places, count, mass, present, patches };
  }
  const { mass } = packed;
  const places = range(g, squeeze(g, dimOf(g, mass, 1), [0]), longest);
  const present = greater(g, mass, g.constant(0));
  const count = reduceSum(g, cast(g, present, 'int64'), [1]);
  const patches = and(g, present, greaterOrEqual(g, places, g.integers(special)));
  return { ...common, uniform: false, places, count, mass, present, patches };
}

/** Weights over the patch tokens that add up to 1 in every sample, by mass or each alike: [batch | 1, 1, longest]. */
export function patchShares(g: GraphBuilder, { mass, patches }: Entering, by: 'mass' | 'count'): Value {
  const indicator = cast(g, patches, g.float);
  const weights = by === 'mass' ? mul(g, mass, indicator) : indicator;
  return unsqueeze(g, div(g, weights, reduceSum(g, weights, [1])), [1]);
}

/** Σ_i share_i v_i: values [batch, longest, k] → [batch, 1, k]. */
export function average(g: GraphBuilder, shares: Value, values: Value): Value {
  return matMul(g, shares, values);
}

/**
 * x·W_k for several matrices [D, width_k] in one product: the tokens are read once. Gives [batch, longest, width_k] each; where
 * there is no token, the projection of some other one.
 */
export function project(
  g: GraphBuilder,
  { seam, width }: Entering,
  name: string,
  matrices: readonly Float32Array[],
): Value[] {
  const widths = matrices.map((matrix) => matrix.length / width);
  const total = widths.reduce((a, b) => a + b, 0);
  const joined = new Float32Array(width * total);
  for (let d = 0; d < width; d++) {
    let column = d * total;
    for (const [k, matrix] of matrices.entries()) {
      joined.set(matrix.subarray(d * widths[k]!, (d + 1) * widths[k]!), column);
      column += widths[k]!;
    }
  }
  const weight = g.initializer(name, floatTensor(g.float, [width, total], joined));
  const padded = padTokens(g, seam.tokens.layout, matMul(g, seam.tokens.rows, weight));
  let column = 0;
  return widths.map((w) => slice(g, padded, 2, column, (column += w)));
}

/** Drops the last axis of length 1: [batch, longest, 1] → [batch, longest]. */
export function flat(g: GraphBuilder, column: Value): Value {
  return reshape(g, column, column.shape.slice(0, 2));
}
