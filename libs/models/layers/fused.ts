import type { GraphBuilder } from '../../onnx/builder.js';
import type { Value } from '../../onnx/ir.js';
import {
  dimOf,
  concat,
  expandTo,
  fusedGelu,
  gemm,
  layerNormalization,
  mul,
  multiHeadAttention,
  reshape,
  skipLayerNormalization,
  unsqueeze,
} from '../../onnx/ops/index.js';
import { packTokens, padTokens } from '../tokens.js';
import { totalKeyBias } from './key-bias.js';
import type { AttentionInputs, Layers } from './layers.js';

/** For serving: the runtime's fused attention, GELU and skip-norm; no derivative. */
export const fused: Layers = {
  name: 'fused',
  narrowsLastBlock: true,
  linear: (g, x, { weight, bias }) => gemm(g, x, weight, bias, { transB: true }),
  layerNorm: (g, x, { gamma, beta, epsilon }) => layerNormalization(g, x, gamma, beta, epsilon).y,
  addNorm(g, x, delta, { gamma, beta, epsilon }) {
    const { sum, y } = skipLayerNormalization(g, x, delta, gamma, beta, undefined, epsilon);
    return { sum, normed: y };
  },
  gelu: fusedGelu,
  attention,
};

function attention(g: GraphBuilder, inputs: AttentionInputs): Value {
  const { heads, width, layout, asking, headGate } = inputs;
  const queries = padTokens(g, asking, inputs.queries);
  const keys = padTokens(g, layout, inputs.keys);
  const values = padTokens(g, layout, inputs.values);
  const bias = totalKeyBias(g, layout, inputs.keyBias);
  let context = multiHeadAttention(g, queries, keys, values, {
    heads,
    ...(bias ? { bias: biasOfQueries(g, bias, queries, keys) } : {}),
  });
  if (headGate) {
    const byHead = reshape(g, context, [asking.batch, asking.longest, heads, width]);
    context = reshape(g, mul(g, byHead, unsqueeze(g, headGate, [1, 3])), context.shape);
  }
  return packTokens(g, asking, context);
}

/** Per key [B, T] → [B, 1, S, T], the only shape that the kernel takes. */
function biasOfQueries(g: GraphBuilder, bias: Value, queries: Value, keys: Value): Value {
  const [batch, asked] = queries.shape;
  const sizes = concat(g, [dimOf(g, queries, 0), g.integers([1]), dimOf(g, queries, 1), dimOf(g, keys, 1)], 0);
  return expandTo(g, unsqueeze(g, bias, [1, 2]), sizes, [batch!, 1, asked!, keys.shape[1]!]);
}
