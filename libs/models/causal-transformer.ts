import type { GraphBuilder } from '../onnx/builder.js';
import type { Value } from '../onnx/ir.js';
import { add, log, mul, reshape, unsqueeze } from '../onnx/ops/index.js';
import { fixed } from '../onnx/shapes.js';
import type { CausalSpec } from './architectures/gpt-neox.js';
import { gatesOf, type Gates } from './gates.js';
import type { Layers, Linear, Norm } from './layers/layers.js';
import type { Matrix } from './quantisation/matrix.js';
import type { Weights } from './weights.js';

/** What the network is built from. */
export interface CausalNetworkInputs {
  readonly spec: CausalSpec;
  readonly weights: Weights;
  readonly layers: Layers;
  readonly gates: Gates;
}

/** Logits, and what happened on the way. Rows are [batch · positions, D]. */
export interface CausalNetwork {
  /** [batch, positions, vocabulary]. */
  readonly logits: Value;
  /** The residual stream as it enters each block, rows; a gate on its tokens is applied. */
  readonly entering: readonly Value[];
  /** The residual stream after its last normalisation, rows: `head` makes logits of it. */
  readonly final: Value;
  /** The vocabulary's matrix [vocabulary, D]. */
  readonly head: Linear;
}

/**
 * A causal language model over whole sequences: token ids [batch, positions] → logits, each of the token after it. GPT-NeoX (Black et al.
 * 2022, §2.1): x + attention(norm₁ x) + mlp(norm₂ x) where the residual is parallel, else one after the other.
 */
export function causalTransformer(g: GraphBuilder, inputIds: Value, inputs: CausalNetworkInputs): CausalNetwork {
  const { spec, layers, gates } = inputs;
  const { hidden, headWidth, rotary, prefix } = spec;
  const named = causalBinder(g, inputs);
  const batch = inputIds.shape[0]!;
  const length = fixed(inputIds.shape[1], 'the number of positions');
  const rows = typeof batch === 'number' ? batch * length : `${batch}·${length}`;
  const table = named.embedding();
  let stream = reshape(g, layers.embedding(g, table, inputIds), [rows, hidden]);
  const entering: Value[] = [];
  /** Σ log mask gates of the blocks so far, [batch, positions]: a masked key stays masked. */
  let keyBias: Value | undefined;

  for (const [block, { heads, neurons }] of spec.blocks.entries()) {
    const name = `${prefix}.layers.${block}`;
    const tokenGate = gatesOf(g, gates, 'tokens', block);
    if (tokenGate) stream = mul(g, stream, reshape(g, tokenGate, [rows, 1]));
    const maskGate = gatesOf(g, gates, 'masks', block);
    if (maskGate) keyBias = keyBias ? add(g, keyBias, log(g, maskGate)) : log(g, maskGate);
    entering.push(stream);

    const normed = layers.layerNorm(g, stream, named.norm(`${name}.input_layernorm`));
    const qkv = layers.linear(g, normed, named.attention(`${name}.attention.query_key_value`, 3 * heads * headWidth, hidden));
    const headGate = gatesOf(g, gates, 'heads', block);
    const context = layers.causalAttention(g, { qkv, heads, width: headWidth, rotary, batch, length, keyBias, headGate });
    const attended = layers.linear(g, context, named.attention(`${name}.attention.dense`, hidden, heads * headWidth));

    const between = add(g, stream, attended);
    const mlpInput = layers.layerNorm(
      g,
      spec.parallelResidual ? stream : between,
      named.norm(`${name}.post_attention_layernorm`),
    );
    const expanded = layers.linear(g, mlpInput, named.linear(`${name}.mlp.dense_h_to_4h`, neurons, hidden));
    let inner = layers.activation(g, expanded, spec.activation);
    const neuronGate = gatesOf(g, gates, 'neurons', block);
    if (neuronGate) {
      const bySample = reshape(g, inner, [batch, length, neurons]);
      inner = reshape(g, mul(g, bySample, unsqueeze(g, neuronGate, [1])), [rows, neurons]);
    }
    stream = add(g, between, layers.linear(g, inner, named.linear(`${name}.mlp.dense_4h_to_h`, hidden, neurons)));
  }
  const final = layers.layerNorm(g, stream, named.norm(`${prefix}.final_layer_norm`));
  const head = named.head();
  const logits = reshape(g, layers.linear(g, final, head), [batch, length, spec.vocabulary]);
  return { logits, entering, final, head };
}

/** Finds norms and linear layers by the names that they have in a Hugging Face checkpoint. */
export function causalBinder(g: GraphBuilder, { spec, weights }: Pick<CausalNetworkInputs, 'spec' | 'weights'>) {
  const { hidden, vocabulary } = spec;
  const bound = new Map<string, Matrix>();
  const bind = (name: string, dims: readonly number[]) => weights.bind(g, name, dims);
  const matrix = (name: string, dims: readonly number[]) => {
    const known = bound.get(name) ?? weights.matrix(g, name, dims);
    bound.set(name, known);
    return known;
  };
  const layer = (name: string, outputs: number, inputs: number, biased: boolean): Linear => ({
    weight: matrix(`${name}.weight`, [outputs, inputs]),
    bias: biased ? bind(`${name}.bias`, [outputs]) : undefined,
  });
  const embedding = () => matrix(`${spec.prefix}.embed_in.weight`, [vocabulary, hidden]);
  return {
    embedding,
    norm: (name: string): Norm => ({
      gamma: bind(`${name}.weight`, [hidden]),
      beta: bind(`${name}.bias`, [hidden]),
      epsilon: spec.epsilon,
    }),
    linear: (name: string, outputs: number, inputs: number) => layer(name, outputs, inputs, true),
    attention: (name: string, outputs: number, inputs: number) => layer(name, outputs, inputs, spec.attentionBias),
    head: (): Linear => ({
      weight: spec.tied ? embedding() : matrix('embed_out.weight', [vocabulary, hidden]),
      bias: undefined,
    }),
  };
}
