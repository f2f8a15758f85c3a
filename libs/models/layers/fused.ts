import type { GraphBuilder } from '../../onnx/builder.js';
import type { Value } from '../../onnx/ir.js';
import {
  add,
  cast,
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
  range,
  reshape,
  transpose,
  unsqueeze,
} from '../../onnx/ops/index.js';
import { blockSize } from '../quantisation/blocks.js';
import { isQuantised } from '../quantisation/matrix.js';
import { packTokens, padTokens } from '../tokens.js';
import { cachedAttention } from './cached-attention.js';
import { canonical } from './canonical.js';
import type { AttentionInputs, CausalAttentionInputs, Layers, Linear } from './layers.js';
import { kernelRotary } from './rotary.js';

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
  causalAttention,
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

/** The kernel of the cached attention with nothing cached. */
function causalAttention(g: GraphBuilder, inputs: CausalAttentionInputs): Value {
  const { heads, width, rotary, batch, length, headGate } = inputs;
  // The kernel takes a bias by query and key alone, so gated keys go the canonical way.
  if (inputs.keyBias) return canonical.causalAttention(g, inputs);
  const byHead = reshape(g, inputs.qkv, [batch, length, heads, 3, width]);
  const qkv = reshape(g, transpose(g, byHead, [0, 1, 3, 2, 4]), [batch, length, 3 * heads * width]);
  const sequences = dimOf(g, qkv, 0);
  const place = (value: Value, dims: readonly number[]) => expandTo(g, value, concat(g, [sequences, g.integers([...dims])], 0), [batch, ...dims]);
  const keys = {
    lastKey: cast(g, place(g.integers(length - 1), []), 'int32'),
    mostKeys: cast(g, g.integers(length), 'int32'),
  };
  const positions = place(range(g, g.integers(length), length), [length]);
  const turns = kernelRotary(rotary, width);
  const kernelTurns = turns === rotary.width ? turns : undefined;
  const attended = cachedAttention(g, { qkv, heads, width, rotary, kernelTurns, context: length, positions, keys });
  let context = reshape(g, attended.context, [batch, length, heads, width]);
  if (headGate) context = mul(g, context, unsqueeze(g, headGate, [1, 3]));
  const rows = typeof batch === 'number' ? batch * length : `${batch}·${length}`;
  return reshape(g, context, [rows, heads * width]);
}
