import { GraphBuilder } from '../onnx/builder.js';
import type { Graph, Value } from '../onnx/ir.js';
import {
  add,
  cast,
  concat,
  dimOf,
  gather,
  max,
  min,
  mul,
  range,
  reduceMax,
  reshape,
  reshapeTo,
  slice,
  squeeze,
  sub,
  unsqueeze,
  writtenInPlace,
} from '../onnx/ops/index.js';
import type { CausalSpec } from './architectures/gpt-neox.js';
import { causalSpecOf } from './causal-lm.js';
import { causalBinder } from './causal-transformer.js';
import type { Checkpoint } from './checkpoint.js';
import { cachedAttention, type KeyCount } from './layers/cached-attention.js';
import { fused } from './layers/fused.js';
import type { Linear } from './layers/layers.js';
import { kernelRotary } from './layers/rotary.js';
import { packedName } from './packed-attention.js';
import type { Weights } from './weights.js';

/** The cache of one block: keys and values [B, heads, C, width] each, by the names of its inputs and outputs. */
export interface BlockCache {
  readonly heads: number;
  readonly width: number;
  /** The column of `cached` that says how many tokens it holds. */
  readonly group: number;
  readonly past: readonly [keys: string, values: string];
  readonly present: readonly [keys: string, values: string];
}

/** Tokens on their way through the blocks: the rows that are still there. */
export interface PromptTokens {
  /** [R, D], R = B · S while nothing was dropped. */
  readonly rows: Value;
  /** int64 [B, S]: their rotary positions. */
  readonly positions: Value;
  /** int64 [B · K]: the rows whose logits are asked for. */
  readonly wanted: Value;
}

/** What happens between two blocks, where tokens of a prompt may be dropped. */
export interface PromptSeam {
  /** The block that the tokens enter next. */
  readonly block: number;
  /** The place of this seam among all, from 0. */
  readonly stage: number;
  readonly tokens: PromptTokens;
  /** int64 [1]: B. */
  readonly batch: Value;
}

/** Gives the tokens that go on, in their order. Where one sequence is alone some may be missing; wanted ones never are. */
export type AtPromptSeam = (g: GraphBuilder, seam: PromptSeam) => PromptTokens;

export interface GenerationOptions {
  /** Float32 or quantised, with the packed queries, keys and values of `packAttention`. */
  readonly weights: (g: GraphBuilder) => Weights;
  /** What happens at the seams, by the block that the tokens enter next; every one begins a new group of caches. It may add inputs. */
  readonly atSeams?: (g: GraphBuilder) => ReadonlyMap<number, AtPromptSeam>;
  readonly name?: string;
}

/** A graph that generates, still open: outputs may be added before it is built. */
export interface GenerationNetwork {
  readonly g: GraphBuilder;
  readonly spec: CausalSpec;
  readonly caches: readonly BlockCache[];
  /** Groups of caches: one, and one more for each seam. */
  readonly groups: number;
  /** The mark of what is written in place, which has to stay the first, `logits`, `cached_after` and the caches. */
  readonly outputs: readonly Value[];
}

/** Symbols of the generation graph's shapes: sequences, new tokens of each, tokens whose logits are asked for, places of a cache. */
export const generationSymbols = { batch: 'B', length: 'S', wanted: 'K', capacity: 'C' } as const;

/**
 * The graph that is served. Inputs: `input_ids` int64 [B, S]; `positions` int64 [B, S], below the context; `wanted` int64 [B, K], the indices
 * into S of the tokens whose logits are asked for; `cached` int32 [B, G], the tokens that each group of caches holds before the run;
 * `past.<block>.key` and `.value` [B, heads, C, width], where there must be room for the new tokens. Outputs: `logits` [B, K, V],
 * `cached_after` int32 [B, G], and `present.<block>.key` and `.value`, to be bound to the memory of the past: the kernel writes the new
 * tokens' keys and values into it and moves nothing, and
 * the mark of `writtenInPlace` is the first output. B > 1 goes with S = 1 alone.
 */
export function buildGenerationGraph(checkpoint: Checkpoint, options: GenerationOptions): GenerationNetwork {
  const g = new GraphBuilder(options.name ?? `${checkpoint.architecture}-generation`);
  const weights = options.weights(g);
  const spec = causalSpecOf(checkpoint, weights);
  const { hidden, headWidth, prefix, rotary, context } = spec;
  const { batch: B, length: S, wanted: K, capacity: C } = generationSymbols;
  const inputIds = g.input('input_ids', 'int64', [B, S]);
  const positions = g.input('positions', 'int64', [B, S]);
  const wanted = g.input('wanted', 'int64', [B, K]);
  const seams = options.atSeams?.(g) ?? new Map<number, AtPromptSeam>();
  const groups = 1 + seams.size;
  const cached = g.input('cached', 'int32', [B, groups]);
  const named = causalBinder(g, { spec, weights });
  const batch = dimOf(g, inputIds, 0);

  let tokens: PromptTokens = {
    rows: reshape(g, fused.embedding(g, named.embedding(), inputIds), [`${B}·${S}`, hidden]),
    positions,
    wanted: rowsOf(g, wanted, inputIds, batch),
  };
  const groupOf = (block: number) => [...seams.keys()].filter((seam) => seam <= block).length;
  const caches = spec.blocks.map(({ heads }, block) => cacheOf(block, heads, headWidth, groupOf(block)));
  const pasts = caches.map(({ heads, past, present }) => {
    const [keys, values] = past.map((name) => g.input(name, g.float, [B, heads, C, headWidth])) as [Value, Value];
    return { keys, values, presentNames: present };
  });
  const capacity = dimOf(g, pasts[0]!.keys, 2);
  let counted = keyCount(g, cached, 0, tokens.positions, capacity);
  const after = [counted.total];
  const presents: Value[] = [];
  for (const [block, { heads, neurons }] of spec.blocks.entries()) {
    const name = `${prefix}.layers.${block}`;
    const atSeam = seams.get(block);
    if (atSeam) {
      tokens = atSeam(g, { block, stage: after.length - 1, tokens, batch });
      counted = keyCount(g, cached, after.length, tokens.positions, capacity);
      after.push(counted.total);
    }
    const packed: Linear = {
      weight: weights.matrix(g, `${packedName(spec, block)}.weight`, [3 * heads * headWidth, hidden]),
      bias: spec.attentionBias ? weights.bind(g, `${packedName(spec, block)}.bias`, [3 * heads * headWidth]) : undefined,
    };
    const normed = fused.layerNorm(g, tokens.rows, named.norm(`${name}.input_layernorm`));
    const qkv = bySequence(g, fused.linear(g, normed, packed), batch, tokens.positions);
    const attention = cachedAttention(g, {
      qkv,
      heads,
      width: headWidth,
      rotary,
      kernelTurns: kernelRotary(rotary, headWidth),
      context,
      positions: tokens.positions,
      keys: counted,
      past: pasts[block]!,
    });
    presents.push(attention.keys, attention.values);
    const rows = tokens.rows.shape[0]!;
    let context2d = reshape(g, attention.context, [rows, heads * headWidth]);
    // Behind the last block's keys and values nothing is needed but the tokens whose logits are asked for.
    if (block === spec.blocks.length - 1) {
      context2d = gather(g, context2d, tokens.wanted);
      tokens = { ...tokens, rows: gather(g, tokens.rows, tokens.wanted) };
    }
    const attended = fused.linear(g, context2d, named.attention(`${name}.attention.dense`, hidden, heads * headWidth));
    const between = add(g, tokens.rows, attended);
    const mlpInput = fused.layerNorm(
      g,
      spec.parallelResidual ? tokens.rows : between,
      named.norm(`${name}.post_attention_layernorm`),
    );
    const expanded = fused.linear(g, mlpInput, named.linear(`${name}.mlp.dense_h_to_4h`, neurons, hidden));
    const inner = fused.activation(g, expanded, spec.activation);
    const added = fused.linear(g, inner, named.linear(`${name}.mlp.dense_4h_to_h`, hidden, neurons));
    tokens = { ...tokens, rows: add(g, between, added) };
  }
  const final = fused.layerNorm(g, tokens.rows, named.norm(`${prefix}.final_layer_norm`));
  const rows = fused.linear(g, final, named.head());
  const shape = concat(g, [batch, g.integers([-1, spec.vocabulary])], 0);
  const logits = g.named('logits', reshapeTo(g, rows, shape, [B, K, spec.vocabulary]));
  const cachedAfter = g.named('cached_after', cast(g, concat(g, after, 1), 'int32'));
  return { g, spec, caches, groups, outputs: [writtenInPlace(g, cached), logits, cachedAfter, ...presents] };
}

/** The whole of it as a graph, where no stage adds outputs of its own. */
export function generationGraph(checkpoint: Checkpoint, options: GenerationOptions): Graph & { readonly caches: readonly BlockCache[] } {
  const { g, outputs, caches } = buildGenerationGraph(checkpoint, options);
  return { ...g.build(outputs), caches };
}

function cacheOf(block: number, heads: number, width: number, group: number): BlockCache {
  const names = (side: 'past' | 'present') => [`${side}.${block}.key`, `${side}.${block}.value`] as const;
  return { heads, width, group, past: names('past'), present: names('present') };
}

/** Indices into each sequence's tokens → rows of all of them. */
function rowsOf(g: GraphBuilder, wanted: Value, inputIds: Value, batch: Value): Value {
  const { batch: B, wanted: K } = generationSymbols;
  const first = mul(g, range(g, squeeze(g, batch, [0]), B), dimOf(g, inputIds, 1));
  return reshape(g, add(g, wanted, unsqueeze(g, first, [1])), [`${B}·${K}`]);
}

/**
 * Keys of a group with the new tokens, and their number [B, 1] int64. The kernel takes a run in which all keys are new as a prompt without
 * gaps, counting its positions from the first one; so where there is room it is told of one key more, which it reads nothing of.
 */
function keyCount(
  g: GraphBuilder,
  cached: Value,
  group: number,
  positions: Value,
  capacity: Value,
): KeyCount & { readonly total: Value } {
  const fresh = dimOf(g, positions, 1);
  const total = add(g, cast(g, slice(g, cached, 1, group, group + 1), 'int64'), fresh);
  const lastKey = cast(g, squeeze(g, sub(g, total, g.integers(1)), [1]), 'int32');
  const beyondFresh = squeeze(g, min(g, add(g, fresh, g.integers(1)), capacity), [0]);
  const mostKeys = cast(g, max(g, reduceMax(g, total, [0, 1], false), beyondFresh), 'int32');
  return { lastKey, mostKeys, total };
}

/** Rows [R, n] → [B, S, n] of the tokens that are at these positions. */
function bySequence(g: GraphBuilder, rows: Value, batch: Value, positions: Value): Value {
  const width = Number(rows.shape[1]);
  return reshapeTo(g, rows, concat(g, [batch, g.integers([-1, width])], 0), [...positions.shape, width]);
}
