import type { GraphBuilder } from '../onnx/builder.js';
import type { Dim, Value } from '../onnx/ir.js';
import { gather, reshape, slice } from '../onnx/ops/index.js';
import { fixed } from '../onnx/shapes.js';

/**
 * Where the tokens of a batch lie. Between blocks the tokens are the rows of a matrix [rows, D], sample after sample and in each
 * the special ones first. While every sample has all of its tokens the layout is uniform (rows = batch · longest); once samples
 * keep different counts it is packed: the rows are the tokens that are there and nothing else.
 */
export interface TokenLayout {
  readonly batch: Dim;
  readonly rows: Dim;
  /** Tokens of the sample that has the most. */
  readonly longest: Dim;
  /** Tokens of a sample that has all of them: no sample has more. */
  readonly full: number;
  /** Class and distillation tokens; they are never gated away or merged. */
  readonly special: number;
  /** Undefined while the layout is uniform. */
  readonly packed: Packing | undefined;
}

export interface Packing {
  /** Undefined where every sample has `longest` tokens: then the rows are those of the padded matrix. */
  readonly scattered: ScatteredRows | undefined;
  /** [batch, 1, longest]: how many patches (1 for a special token) each token stands for; 0 where there is none. */
  readonly mass: Value;
  /** [batch, 1, 1]: the tokens of each sample, a number of the graph's float type. */
  readonly count: Value;
}

/** Which rows lie where, in a batch whose samples have different counts of tokens. */
export interface ScatteredRows {
  /** int64 [rows]: the place of each row in the padded matrix [batch · longest, D]. */
  readonly places: Value;
  /** int64 [batch, longest]: the row at each place; any row where there is none (its mass is 0). */
  readonly rowsAt: Value;
}

/** Tokens with their layout. rows: [layout.rows, D]. */
export interface Tokens {
  readonly rows: Value;
  readonly layout: TokenLayout;
}

/** What a block offers between its attention and its MLP, where tokens may be merged or dropped. */
export interface Seam {
  readonly block: number;
  /** The residual stream after attention was added to it. */
  readonly tokens: Tokens;
  /** This block's queries and keys, rows as in `tokens`: [rows, heads · width]. */
  readonly queries: Value;
  readonly keys: Value;
  readonly heads: number;
}

/** What happens at the seams; gives the tokens that go on (the same ones where nothing happens). */
export type AtSeam = (g: GraphBuilder, seam: Seam) => Tokens;

/** Rows [rows, D] → [batch, longest, D]; in a packed layout the places without a token repeat some row. */
export function padTokens(g: GraphBuilder, layout: TokenLayout, rows: Value): Value {
  const scattered = layout.packed?.scattered;
  if (scattered) return gather(g, rows, scattered.rowsAt);
  return reshape(g, rows, [layout.batch, layout.longest, fixed(rows.shape[1], 'the width of a token')]);
}

/** [batch, longest, D] → rows [rows, D]. */
export function packTokens(g: GraphBuilder, layout: TokenLayout, padded: Value): Value {
  const width = fixed(padded.shape[2], 'the width of a token');
  const scattered = layout.packed?.scattered;
  if (!scattered) return reshape(g, padded, [layout.rows, width]);
  return gather(g, reshape(g, padded, [`${layout.batch}·${layout.longest}`, width]), scattered.places);
}

/** Rows of a batch of full samples: a product where the batch is a number, a symbol of its own where it is one. */
export function uniformLayout(batch: Dim, tokens: number, special: number): TokenLayout {
  const rows = typeof batch === 'number' ? batch * tokens : `${batch}·${tokens}`;
  return { batch, rows, longest: tokens, full: tokens, special, packed: undefined };
}

/** The special tokens alone, as tokens of a uniform layout. */
export function specialTokens(g: GraphBuilder, { rows, layout }: Tokens): Tokens {
  const { batch, special } = layout;
  const scattered = layout.packed?.scattered;
  const narrowed = uniformLayout(batch, special, special);
  const width = fixed(rows.shape[1], 'the width of a token');
  const chosen = scattered
    ? gather(g, rows, slice(g, scattered.rowsAt, 1, 0, special, special))
    : slice(g, padTokens(g, layout, rows), 1, 0, special, special);
  return { rows: reshape(g, chosen, [narrowed.rows, width]), layout: narrowed };
}
