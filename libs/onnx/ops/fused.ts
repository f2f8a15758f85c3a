import { internal } from '../../errors/error.js';
import type { GraphBuilder } from '../builder.js';
import type { Attribute, Value } from '../ir.js';

/**
 * Operators of com.microsoft that the runtime has kernels for
 * (https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md). For serving; they have no derivative here.
 */
const domain = 'com.microsoft' as const;

/** x Φ(x). */
export function fusedGelu(g: GraphBuilder, x: Value): Value {
  return g.emitOne({ op: 'Gelu', domain, inputs: [x], output: { type: x.type, shape: x.shape } });
}

/** The tanh approximation of the GELU. */
export function fastGelu(g: GraphBuilder, x: Value): Value {
  return g.emitOne({ op: 'FastGelu', domain, inputs: [x], output: { type: x.type, shape: x.shape } });
}

/** gelu(x + bias); bias [D]. */
export function biasGelu(g: GraphBuilder, x: Value, bias: Value): Value {
  return g.emitOne({ op: 'BiasGelu', domain, inputs: [x, bias], output: { type: x.type, shape: x.shape } });
}

/**
 * s = x + skip (+ bias); y = layerNorm(s). x, skip [.., S, D] of rank 3 (or 2), γ, β, bias [D]. Gives y and s.
 * On the CPU its kernel takes several times as long as an addition and a layer normalisation, so the fused lowering goes without it.
 */
export function skipLayerNormalization(
  g: GraphBuilder,
  x: Value,
  skip: Value,
  gamma: Value,
  beta: Value,
  bias: Value | undefined,
  epsilon: number,
): { y: Value; sum: Value } {
  const info = { type: x.type, shape: x.shape };
  const [y, , , sum] = g.emit({
    op: 'SkipLayerNormalization',
    domain,
    inputs: [x, skip, gamma, beta, bias],
    attributes: { epsilon: { kind: 'float', value: epsilon } },
    outputs: [info, undefined, undefined, info],
  });
  if (!y || !sum) throw internal('SkipLayerNormalization has four outputs');
  return { y, sum };
}

/**
 * softmax(q kᵀ · scale + bias) v. q [B, S, H·d], k [B, T, H·d], v [B, T, H·e]; bias [B | 1, 1 | H, S, T]; a key padding mask
 * is int32 [B, T], 1 where a key counts.
 */
export function multiHeadAttention(
  g: GraphBuilder,
  q: Value,
  k: Value,
  v: Value,
  options: { heads: number; scale?: number; bias?: Value; keyPaddingMask?: Value },
): Value {
  const attributes: Record<string, Attribute> = { num_heads: { kind: 'int', value: options.heads } };
  if (options.scale !== undefined) attributes['scale'] = { kind: 'float', value: options.scale };
  return g.emitOne({
    op: 'MultiHeadAttention',
    domain,
    inputs: [q, k, v, undefined, options.keyPaddingMask, options.bias],
    attributes,
    output: { type: q.type, shape: [q.shape[0]!, q.shape[1]!, v.shape[2]!] },
  });
}
