import type { GraphBuilder } from '../../onnx/builder.js';
import type { Value } from '../../onnx/ir.js';
import {
  add,
  gather,
  gelu,
  gemm,
  layerNormalization,
  matMul,
  mul,
  relu,
  reshape,
  slice,
  softmax,
  tanh,
  transpose,
  unsqueeze,
} from '../../onnx/ops/index.js';
import { plainMatrix } from '../quantisation/matrix.js';
import { packTokens, padTokens, type TokenLayout } from '../tokens.js';
import { totalKeyBias } from './key-bias.js';
import type { AttentionInputs, CausalAttentionInputs, Layers } from './layers.js';
import { rotated } from './rotary.js';

/**
 * Standard ONNX operators only, each differentiable: the reference. A Gemm with a transposed weight differentiates into Gemms,
 * none of which needs a copy of a weight or an activation.
 */
export const canonical: Layers = {
  name: 'canonical',
  narrowsLastBlock: false,
  linear: (g, x, { weight, bias }) => gemm(g, x, plainMatrix(weight), bias, { transB: true }),
  embedding: (g, table, indices) => gather(g, plainMatrix(table), indices),
  layerNorm: (g, x, { gamma, beta, epsilon }) => layerNormalization(g, x, gamma, beta, epsilon).y,
  addNorm(g, x, delta, norm) {
    const sum = add(g, x, delta);
    return { sum, normed: canonical.layerNorm(g, sum, norm) };
  },
  gelu,
  activation(g, x, activation) {
    switch (activation) {
      case 'gelu':
        return gelu(g, x);
      case 'gelu-tanh':
        return tanhGelu(g, x);
      case 'relu':
        return relu(g, x);
    }
  },
  attention,
  causalAttention,
};

/** ½ x (1 + tanh(√(2/π) (x + 0.044715 x³))). */
function tanhGelu(g: GraphBuilder, x: Value): Value {
  const inner = mul(g, mul(g, x, add(g, mul(g, mul(g, x, x), 0.044715), 1)), Math.sqrt(2 / Math.PI));
  return mul(g, mul(g, x, 0.5), add(g, tanh(g, inner), 1));
}

function attention(g: GraphBuilder, inputs: AttentionInputs): Value {
  const { heads, width, layout, asking, headGate } = inputs;
  // [rows, H·w] → [B, T, H, w]
  const split = (x: Value, of: TokenLayout) => reshape(g, padTokens(g, of, x), [of.batch, of.longest, heads, width]);
  const queries = transpose(g, split(mul(g, inputs.queries, 1 / Math.sqrt(width)), asking), [0, 2, 1, 3]);
  const keys = transpose(g, split(inputs.keys, layout), [0, 2, 3, 1]);
  const values = transpose(g, split(inputs.values, layout), [0, 2, 1, 3]);
  const bias = totalKeyBias(g, layout, inputs.keyBias);
  const scores = matMul(g, queries, keys);
  const attended = softmax(g, bias ? add(g, scores, unsqueeze(g, bias, [1, 2])) : scores);
  let context = matMul(g, attended, values);
  if (headGate) context = mul(g, context, unsqueeze(g, headGate, [2, 3]));
  const joined = transpose(g, context, [0, 2, 1, 3]);
  return packTokens(g, asking, reshape(g, joined, [asking.batch, asking.longest, heads * width]));
}

/** Far below every score, and finite: exp(masked − score) is 0 in either float type, and no product with it is NaN. */
const masked = -1e9;

function causalAttention(g: GraphBuilder, inputs: CausalAttentionInputs): Value {
  const { heads, width, rotary, batch, length, keyBias, headGate } = inputs;
  const byHead = reshape(g, inputs.qkv, [batch, length, heads, 3 * width]);
  const part = (i: number) => slice(g, byHead, -1, i * width, (i + 1) * width);
  const queries = rotated(g, mul(g, part(0), 1 / Math.sqrt(width)), rotary, 1);
  const keys = rotated(g, part(1), rotary, 1);
  const scores = matMul(g, transpose(g, queries, [0, 2, 1, 3]), transpose(g, keys, [0, 2, 3, 1]));
  const later = Array.from({ length: length * length }, (_, i) => (i % length > Math.floor(i / length) ? masked : 0));
  const seen = add(g, scores, g.constant(later, [length, length]));
  const attended = softmax(g, keyBias ? add(g, seen, unsqueeze(g, keyBias, [1, 2])) : seen);
  let context = matMul(g, attended, transpose(g, part(2), [0, 2, 1, 3]));
  if (headGate) context = mul(g, context, unsqueeze(g, headGate, [2, 3]));
  const rows = typeof batch === 'number' ? batch * length : `${batch}·${length}`;
  return reshape(g, transpose(g, context, [0, 2, 1, 3]), [rows, heads * width]);
}
