import { internal } from '../../errors/error.js';
import type { GraphBuilder } from '../builder.js';
import type { Attribute, Value } from '../ir.js';
import { describe, fixed } from '../shapes.js';

/** What com.microsoft's GroupQueryAttention reads beside the queries, keys and values. */
export interface GroupQueryOptions {
  readonly heads: number;
  /** int32 [B]: keys that each sequence has with the new ones, less one. */
  readonly lastKey: Value;
  /** int32 scalar: the most keys that any of them has. */
  readonly mostKeys: Value;
  /** Keys and values so far, [B, heads, C, width]; a run that writes the outputs into the same memory moves none of them. */
  readonly past?: { readonly keys: Value; readonly values: Value; readonly presentNames: readonly [string, string] };
  /** cos and sin [positions, pairs] and the position of each token, int64 [B, S]. */
  readonly rotary?: { readonly cos: Value; readonly sin: Value; readonly positions: Value };
}

/**
 * Causal attention of S new tokens over themselves and what is cached. qkv [B, S, 3 · heads · width]: all queries, all keys, all
 * values. Gives [B, S, heads · width] and the caches with the new tokens at their end. The kernel takes several new tokens of one sequence
 * only when it has a past. (https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.GroupQueryAttention)
 */
export function groupQueryAttention(
  g: GraphBuilder,
  qkv: Value,
  { heads, lastKey, mostKeys, past, rotary }: GroupQueryOptions,
): { context: Value; keys: Value; values: Value } {
  const [batch, length, joined] = qkv.shape;
  const width = fixed(joined, 'the width of queries, keys and values') / 3 / heads;
  if (!Number.isInteger(width)) throw internal(`GroupQueryAttention of ${describe(qkv.shape)} in ${heads} heads`);
  const attributes: Record<string, Attribute> = {
    num_heads: { kind: 'int', value: heads },
    kv_num_heads: { kind: 'int', value: heads },
    do_rotary: { kind: 'int', value: rotary ? 1 : 0 },
  };
  const cache = { type: qkv.type, shape: past?.keys.shape ?? [batch!, heads, length!, width] };
  const rotation = rotary ? [rotary.cos, rotary.sin, rotary.positions] : [];
  const [context, keys, values] = g.emit({
    op: 'GroupQueryAttention',
    domain: 'com.microsoft',
    inputs: [qkv, undefined, undefined, past?.keys, past?.values, lastKey, mostKeys, ...rotation],
    attributes,
    outputs: [
      { type: qkv.type, shape: [batch!, length!, heads * width] },
      { ...cache, ...(past ? { fixedName: past.presentNames[0] } : {}) },
      { ...cache, ...(past ? { fixedName: past.presentNames[1] } : {}) },
    ],
  });
  if (!context || !keys || !values) throw internal('GroupQueryAttention has three outputs');
  return { context, keys, values };
}
