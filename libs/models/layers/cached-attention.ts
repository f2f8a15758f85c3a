import type { GraphBuilder } from '../../onnx/builder.js';
import type { Value } from '../../onnx/ir.js';
import { concat, gather, groupQueryAttention, reshape, slice, unsqueeze } from '../../onnx/ops/index.js';
import { rotaryConstants, turned, type Rotary } from './rotary.js';

/** How many keys there are, for blocks whose caches hold the same tokens. */
export interface KeyCount {
  /** int32 [B]: keys of each sequence with the new ones, less one. */
  readonly lastKey: Value;
  /** int32 scalar: the most of them. */
  readonly mostKeys: Value;
}

export interface CachedAttentionInputs {
  /** [B, S, 3 · heads · width], rows packed as `packedRows` says. */
  readonly qkv: Value;
  readonly heads: number;
  readonly width: number;
  readonly rotary: Rotary;
  /** How many numbers of a head the kernel turns (the rows being in its order); undefined where standard operators do. */
  readonly kernelTurns: number | undefined;
  /** Positions that there are angles for. */
  readonly context: number;
  /** int64 [B, S]: which position each token is at. */
  readonly positions: Value;
  readonly keys: KeyCount;
  /** Caches [B, heads, C, width] and the names of what they become; undefined where nothing came before. */
  readonly past?: { readonly keys: Value; readonly values: Value; readonly presentNames: readonly [string, string] };
}

/** Causal attention of new tokens over what is cached and themselves, rotation included. Gives [B, S, heads · width], and the caches. */
export function cachedAttention(g: GraphBuilder, inputs: CachedAttentionInputs) {
  const { heads, rotary, kernelTurns, context, positions, keys, past } = inputs;
  const options = { heads, ...keys, ...(past ? { past } : {}) };
  if (kernelTurns !== undefined) {
    const rotation = { ...rotaryConstants(g, rotary, context, kernelTurns), positions };
    return groupQueryAttention(g, inputs.qkv, { ...options, rotary: rotation });
  }
  const qkv = rotary.width === 0 ? inputs.qkv : turnedBefore(g, inputs);
  return groupQueryAttention(g, qkv, options);
}

/** Queries and keys turned by standard operators, where the heads are of a width that the kernel does not turn. */
function turnedBefore(g: GraphBuilder, { qkv, heads, width, rotary, context, positions }: CachedAttentionInputs): Value {
  const [batch, length] = qkv.shape;
  const { cos, sin } = rotaryConstants(g, rotary, context);
  const at = (table: Value) => unsqueeze(g, gather(g, table, positions), [2]);
  const half = 2 * heads * width;
  const byHead = reshape(g, slice(g, qkv, -1, 0, half), [batch!, length!, 2 * heads, width]);
  const both = reshape(g, turned(g, byHead, rotary.width, at(cos), at(sin)), [batch!, length!, half]);
  return concat(g, [both, slice(g, qkv, -1, half, 3 * heads * width)], -1);
}
