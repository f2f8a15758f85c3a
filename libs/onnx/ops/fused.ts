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

/** What the operators on blocks of quantised weights take: q [N, blocks, bytes], scales [N, blocks], zero points [N, bytes]. */
export interface BlockQuantised {
  readonly bits: number;
  readonly blockSize: number;
  readonly rows: number;
  readonly columns: number;
  readonly packed: Value;
  readonly scales: Value;
  readonly zeros: Value;
}

/** Rows of a quantised w [N, K] as floats: indices [..] → [.., K]. The columns of w must fill its blocks. */
export function gatherBlockQuantized(g: GraphBuilder, w: BlockQuantised, indices: Value): Value {
  const tensor = g.tensorOf(w.packed);
  if (!tensor || w.columns % w.blockSize !== 0) throw internal(`GatherBlockQuantized of ${w.packed.name}`);
  // The operator wants as many dimensions as the scales have: the same bytes under another shape.
  const [rows = 0, blocks = 0, bytes = 0] = tensor.dims;
  const data = g.initializer(`${w.packed.name}.rows`, { ...tensor, dims: [rows, blocks * bytes] });
  return g.emitOne({
    op: 'GatherBlockQuantized',
    domain,
    inputs: [data, indices, w.scales, w.zeros],
    attributes: {
      bits: { kind: 'int', value: w.bits },
      block_size: { kind: 'int', value: w.blockSize },
      gather_axis: { kind: 'int', value: 0 },
      quantize_axis: { kind: 'int', value: 1 },
    },
    output: { type: 'float32', shape: [...indices.shape, w.columns] },
  });
}

/**
 * x wᵀ + bias for rows x [.., K] and a quantised w [N, K]. The products are of 8-bit integers, block by block, the rows of x quantised on the
 * way (accuracy level 4), and the kernels then give a row the same bits whatever other rows there are.
 */
export function matMulNBits(g: GraphBuilder, x: Value, w: BlockQuantised, bias?: Value): Value {
  if (x.shape.at(-1) !== w.columns) throw internal(`MatMulNBits of ${x.name} and ${w.rows} × ${w.columns}`);
  return g.emitOne({
    op: 'MatMulNBits',
    domain,
    inputs: [x, w.packed, w.scales, w.zeros, ...(bias ? [undefined, bias] : [])],
    attributes: {
      K: { kind: 'int', value: w.columns },
      N: { kind: 'int', value: w.rows },
      bits: { kind: 'int', value: w.bits },
      block_size: { kind: 'int', value: w.blockSize },
      accuracy_level: { kind: 'int', value: 4 },
    },
    output: { type: x.type, shape: [...x.shape.slice(0, -1), w.rows] },
  });
}
