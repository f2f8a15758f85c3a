import type { GraphBuilder } from '../../onnx/builder.js';
import type { Value } from '../../onnx/ir.js';
import {
  add,
  gelu,
  gemm,
  layerNormalization,
  matMul,
  mul,
  reshape,
  softmax,
  transpose,
  unsqueeze,
} from '../../onnx/ops/index.js';
import { packTokens, padTokens, type TokenLayout } from '../tokens.js';
import { totalKeyBias } from './key-bias.js';
import type { AttentionInputs, Layers } from './layers.js';

/**
 * Standard ONNX operators only, each differentiable: the reference. A Gemm with a transposed weight differentiates into Gemms,
 * none of which needs a copy of a weight or an activation.
 */
export const canonical: Layers = {
  name: 'canonical',
  narrowsLastBlock: false,
  linear: (g, x, { weight, bias }) => gemm(g, x, weight, bias, { transB: true }),
  layerNorm: (g, x, { gamma, beta, epsilon }) => layerNormalization(g, x, gamma, beta, epsilon).y,
  addNorm(g, x, delta, norm) {
    const sum = add(g, x, delta);
    return { sum, normed: canonical.layerNorm(g, sum, norm) };
  },
  gelu,
  attention,
};

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
