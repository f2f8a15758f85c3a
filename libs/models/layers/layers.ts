import type { GraphBuilder } from '../../onnx/builder.js';
import type { Dim, Value } from '../../onnx/ir.js';
import type { Activation } from '../architectures/gpt-neox.js';
import type { Matrix } from '../quantisation/matrix.js';
import type { TokenLayout } from '../tokens.js';
import type { Rotary } from './rotary.js';

/** γ and β [D], and ε, of a layer normalisation. */
export interface Norm {
  readonly gamma: Value;
  readonly beta: Value;
  readonly epsilon: number;
}

/** Weight [out, in] as PyTorch keeps it, plain or (for the fused lowering) quantised; bias [out]. */
export interface Linear {
  readonly weight: Matrix;
  readonly bias: Value | undefined;
}

/** What attention works on. queries, keys, values: rows [.., heads · width]. */
export interface AttentionInputs {
  readonly queries: Value;
  readonly keys: Value;
  readonly values: Value;
  readonly heads: number;
  readonly width: number;
  /** Of keys and values. */
  readonly layout: TokenLayout;
  /** Of the queries, and of what comes out: the same one, or the special tokens alone. */
  readonly asking: TokenLayout;
  /** Added to the scores by key, [batch, longest]: the logarithm of a key's gate. */
  readonly keyBias: Value | undefined;
  /** Multiplies the heads' contexts, [batch, heads]. */
  readonly headGate: Value | undefined;
}

/** What causal attention over whole sequences works on: token t sees the tokens up to t. */
export interface CausalAttentionInputs {
  /** Rows [batch · length, heads · 3 · width]: of each head its query, key and value. */
  readonly qkv: Value;
  readonly heads: number;
  readonly width: number;
  readonly rotary: Rotary;
  readonly batch: Dim;
  readonly length: number;
  /** Added to the scores by key, [batch, length]: the logarithm of a key's gate. */
  readonly keyBias: Value | undefined;
  /** Multiplies the heads' contexts, [batch, heads]. */
  readonly headGate: Value | undefined;
}

/** The layer functions in which an architecture is written. Rows are [rows, D]. */
export interface Layers {
  readonly name: 'canonical' | 'fused';
  linear(g: GraphBuilder, x: Value, layer: Linear): Value;
  /** Rows of a table [entries, D]: indices [..] → [.., D]. */
  embedding(g: GraphBuilder, table: Matrix, indices: Value): Value;
  layerNorm(g: GraphBuilder, x: Value, norm: Norm): Value;
  /** s = x + delta and the layer normalisation of s. */
  addNorm(g: GraphBuilder, x: Value, delta: Value, norm: Norm): { readonly sum: Value; readonly normed: Value };
  gelu(g: GraphBuilder, x: Value): Value;
  /** softmax(q kᵀ / √width + key bias) v, head by head; rows like the queries. */
  attention(g: GraphBuilder, inputs: AttentionInputs): Value;
  /** softmax(rotated q · rotated k / √width + key bias, masked above the diagonal) v; rows [batch · length, heads · width]. */
  causalAttention(g: GraphBuilder, inputs: CausalAttentionInputs): Value;
  activation(g: GraphBuilder, x: Value, activation: Activation): Value;
  /** Whether the last block computes only the special tokens, which are all that the classifier reads. */
  readonly narrowsLastBlock: boolean;
}
