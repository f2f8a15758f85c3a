import type { GraphBuilder } from '../../onnx/builder.js';
import type { Value } from '../../onnx/ir.js';
import {
  add,
  concat,
  dimOf,
  expandTo,
  fastGelu,
  fusedGelu,
  gather,
  gatherBlockQuantized,
  gemm,
  layerNormalization,
  log,
  matMulNBits,
  mul,
  multiHeadAttention,
  relu,
  reshape,
  unsqueeze,
} from '../../onnx/ops/index.js';
import { blockSize } from '../quantisation/blocks.js';
import { isQuantised } from '../quantisation/matrix.js';
import { packTokens, padTokens } from '../tokens.js';
import { canonical } from './canonical.js';
import type { AttentionInputs, Layers, Linear } from './layers.js';

/** For serving: the runtime's fused attention, GELU and skip-norm; no derivative. */
export const fused: Layers = {
  name: 'fused',
  narrowsLastBlock: true,
  linear,
  embedding: (g, table, indices) =>
    isQuantised(table) ? gatherBlockQuantized(g, { ...table, blockSize }, indices) : gather(g, table, indices),
  layerNorm: (g, x, { gamma, beta, epsilon }) => layerNormalization(g, x, gamma, beta, epsilon).y,
  addNorm(g, x, delta, norm) {
    const sum = add(g, x, delta);
    return { sum, normed: fused.layerNorm(g, sum, norm) };
  },
  gelu: fusedGelu,
  activation(g, x, activation) {
    switch (activation) {
      case 'gelu':
        return fusedGelu(g, x);
      case 'gelu-tanh':
        return fastGelu(g, x);
      case 'relu':
        return relu(g, x);
    }
  },
  attention,
  causalAttention: canonical.causalAttention,
};

/** x wᵀ + b; rows x [rows, in]. */
function linear(g: GraphBuilder, x: Value, { weight, bias }: Linear): Value {
  return isQuantised(weight) ? matMulNBits(g, x, { ...weight, blockSize }, bias) : gemm(g, x, weight, bias, { transB: true });
}

function attention(g: GraphBuilder, inputs: AttentionInputs): Value {
  const { heads, width, layout, asking, headGate } = inputs;
  const queries = padTokens(g, asking, inputs.queries);
  const keys = padTokens(g, layout, inputs.keys);
  const values = padTokens(g, layout, inputs.values);
  const bias = keyBias(g, inputs);
  let context = multiHeadAttention(g, queries, keys, values, { heads, ...(bias ? { bias } : {}) });
  if (headGate) {
    const byHead = reshape(g, context, [asking.batch, asking.longest, heads, width]);
    context = reshape(g, mul(g, byHead, unsqueeze(g, headGate, [1, 3])), context.shape);
  }
  return packTokens(g, asking, context);
}

/**
 * What is added to the scores, [B, 1, S, T] (the only shape that the kernel takes), undefined for nothing. In a packed layout the
 * logarithm of a key's mass, −∞ where there is none: a token that stands for n patches counts as n keys (proportional attention, Bolya et
 * al. 2023, Token Merging, eq. 1). It depends on the layout alone, so blocks of one layout share it.
 */
function keyBias(g: GraphBuilder, { layout, asking, keyBias: gates }: AttentionInputs): Value | undefined {
  const { batch, longest, packed } = layout;
  const rowOf = (x: Value) => reshape(g, x, [batch, 1, 1, longest]);
  const logMass = packed && rowOf(log(g, packed.mass));
  const row = logMass && gates ? add(g, logMass, rowOf(gates)) : (logMass ?? (gates && rowOf(gates)));
  if (!row) return undefined;
  const asked = asking.longest;
  if (asked === 1) return row;
  const counted = typeof asked === 'number' || !packed ? g.integers([Number(asked)]) : dimOf(g, packed.mass, 2);
  return expandTo(g, row, concat(g, [g.integers([1, 1]), counted, g.integers([1])], 0), [batch, 1, asked, longest]);
}
