import type { GraphBuilder } from '../onnx/builder.js';
import type { Dim, Value } from '../onnx/ir.js';
import { add, concat, gemm, log, mul, padZeros, reshape, slice, transpose, unsqueeze } from '../onnx/ops/index.js';
import type { ClassifierSpec } from './architectures/transformer.js';
import { gatesOf, type Gates } from './gates.js';
import type { Layers, Linear, Norm } from './layers/layers.js';
import { specialTokens, uniformLayout, type AtSeam, type Tokens } from './tokens.js';
import type { Weights } from './weights.js';

/** What the network is built from. */
export interface NetworkInputs {
  readonly spec: ClassifierSpec;
  readonly weights: Weights;
  readonly layers: Layers;
  readonly gates: Gates;
  /** What happens between attention and MLP of some blocks. */
  readonly atSeams: ReadonlyMap<number, AtSeam>;
}

/** Logits, and what happened on the way. */
export interface Network {
  /** [batch, classes]. */
  readonly logits: Value;
  /** The residual stream after each block's attention, rows [rows, D] (before anything happens at that seam). */
  readonly seams: readonly Value[];
}

/**
 * A vision transformer for classification: pixels [batch, C, H, W] → logits [batch, classes]. Pre-norm blocks
 * (Dosovitskiy et al. 2021, eq. 1–4): x += attention(norm x); x += mlp(norm x).
 */
export function visionTransformer(g: GraphBuilder, pixels: Value, inputs: NetworkInputs): Network {
  const { spec, layers, gates, atSeams } = inputs;
  const { hidden, headWidth } = spec;
  const named = binder(g, inputs);
  let tokens = embed(g, pixels, inputs);
  const seams: Value[] = [];
  /** Σ log mask gates of the blocks so far, [batch, tokens]: a masked key stays masked. */
  let keyBias: Value | undefined;
  /** What the previous block's MLP adds, until the next normalisation joins it. */
  let pending: Value | undefined;

  for (const [block, { heads, neurons }] of spec.blocks.entries()) {
    const name = `${spec.family.prefix}.encoder.layer.${block}`;
    const width = heads * headWidth;
    const tokenGate = gatesOf(g, gates, 'tokens', block);
    if (tokenGate) {
      const entering = pending ? add(g, tokens.rows, pending) : tokens.rows;
      tokens = { ...tokens, rows: mul(g, entering, reshape(g, tokenGate, [tokens.layout.rows, 1])) };
      pending = undefined;
    }
    const maskGate = gatesOf(g, gates, 'masks', block);
    if (maskGate) keyBias = keyBias ? add(g, keyBias, log(g, maskGate)) : log(g, maskGate);

    const before = joined(g, layers, tokens.rows, pending, named.norm(`${name}.layernorm_before`, hidden));
    tokens = { ...tokens, rows: before.sum };
    const project = (part: string, x: Value) =>
      layers.linear(g, x, named.linear(`${name}.attention.attention.${part}`, width, hidden, spec.qkvBias));
    const normed: Tokens = { rows: before.normed, layout: tokens.layout };
    const keys = project('key', normed.rows);
    const values = project('value', normed.rows);
    // The classifier reads special tokens alone, so of the last block nothing else is needed.
    const narrow = layers.narrowsLastBlock && block === spec.blocks.length - 1 && !atSeams.has(block);
    const asking = narrow ? specialTokens(g, normed) : normed;
    const stream = narrow ? specialTokens(g, tokens) : tokens;
    const queries = project('query', asking.rows);
    const context = layers.attention(g, {
      queries,
      keys,
      values,
      heads,
      width: headWidth,
      layout: normed.layout,
      asking: asking.layout,
      keyBias,
      headGate: gatesOf(g, gates, 'heads', block),
    });
    const attended = layers.linear(g, context, named.linear(`${name}.attention.output.dense`, hidden, width));

    const after = named.norm(`${name}.layernorm_after`, hidden);
    const atSeam = atSeams.get(block);
    let mlpInput: Value;
    if (atSeam) {
      const meeting: Tokens = { rows: add(g, stream.rows, attended), layout: stream.layout };
      seams.push(meeting.rows);
      tokens = atSeam(g, { block, tokens: meeting, queries, keys, heads });
      mlpInput = layers.layerNorm(g, tokens.rows, after);
    } else {
      const { sum, normed: toMlp } = layers.addNorm(g, stream.rows, attended, after);
      seams.push(sum);
      tokens = { rows: sum, layout: stream.layout };
      mlpInput = toMlp;
    }
    const expanded = layers.linear(g, mlpInput, named.linear(`${name}.intermediate.dense`, neurons, hidden));
    let inner = layers.gelu(g, expanded);
    const neuronGate = gatesOf(g, gates, 'neurons', block);
    if (neuronGate) {
      const { batch, longest, rows } = tokens.layout;
      const bySample = reshape(g, inner, [batch, longest, neurons]);
      inner = reshape(g, mul(g, bySample, unsqueeze(g, neuronGate, [1])), [rows, neurons]);
    }
    pending = layers.linear(g, inner, named.linear(`${name}.output.dense`, hidden, neurons));
  }
  const last: Tokens = { ...tokens, rows: pending ? add(g, tokens.rows, pending) : tokens.rows };
  return { logits: classify(g, last, inputs), seams };
}

/** Joins what a layer adds to the stream with the normalisation that follows. */
function joined(g: GraphBuilder, layers: Layers, x: Value, delta: Value | undefined, norm: Norm) {
  return delta ? layers.addNorm(g, x, delta, norm) : { sum: x, normed: layers.layerNorm(g, x, norm) };
}

/** Pixels → tokens: patches by a linear map, special tokens before them, positions added. */
function embed(g: GraphBuilder, pixels: Value, { spec, weights }: NetworkInputs): Tokens {
  const { image, patch, hidden, special, family } = spec;
  const batch = pixels.shape[0] as Dim;
  const [rows, columns] = [image.height / patch.height, image.width / patch.width];
  const length = image.channels * patch.height * patch.width;
  const name = (part: string) => `${family.prefix}.embeddings.${part}`;
  const layout = uniformLayout(batch, spec.tokens, special);
  // A convolution whose stride is its kernel is a matrix product over patches: [B, C, y, h, x, w] → [B·y·x, C·h·w].
  const cut = reshape(g, pixels, [batch, image.channels, rows, patch.height, columns, patch.width]);
  const patches = reshape(g, transpose(g, cut, [0, 2, 4, 1, 3, 5]), [
    typeof batch === 'number' ? batch * rows * columns : `${batch}·${rows * columns}`,
    length,
  ]);
  const projection = name('patch_embeddings.projection');
  const kernelDims = [hidden, image.channels, patch.height, patch.width];
  const kernel = weights.bind(g, `${projection}.weight`, kernelDims, [hidden, length]);
  const bias = weights.bind(g, `${projection}.bias`, [hidden]);
  const embedded = reshape(g, gemm(g, patches, kernel, bias, { transB: true }), [batch, rows * columns, hidden]);
  const learned = family.specialTokens.map((part) => weights.bind(g, name(part), [1, 1, hidden]));
  const positions = weights.bind(g, name('position_embeddings'), [1, spec.tokens, hidden]);
  // One constant holds the special tokens and all positions: the runtime folds it.
  const offsets = add(g, positions, padZeros(g, concat(g, learned, 1), 1, 0, rows * columns));
  const sequence = add(g, padZeros(g, embedded, 1, special, 0), offsets);
  return { rows: reshape(g, sequence, [layout.rows, hidden]), layout };
}

/** The mean of the classifiers' logits, each on its special token (a layer normalisation is by row, so only they are normed). */
function classify(g: GraphBuilder, tokens: Tokens, inputs: NetworkInputs): Value {
  const { spec, layers } = inputs;
  const { family, hidden, classes, special } = spec;
  const named = binder(g, inputs);
  const { batch } = tokens.layout;
  const norm = named.norm(`${family.prefix}.layernorm`, hidden);
  const read = reshape(g, layers.layerNorm(g, specialTokens(g, tokens).rows, norm), [batch, special, hidden]);
  const logits = family.classifiers.map(({ name, token }) => {
    const row = reshape(g, slice(g, read, 1, token, token + 1), [batch, hidden]);
    return layers.linear(g, row, named.linear(name, classes, hidden));
  });
  const sum = logits.reduce((total, each) => add(g, total, each));
  return logits.length === 1 ? sum : mul(g, sum, 1 / logits.length);
}

/** Finds norms and linear layers by the names that they have in a Hugging Face checkpoint. */
function binder(g: GraphBuilder, { spec, weights }: NetworkInputs) {
  return {
    norm: (name: string, width: number): Norm => ({
      gamma: weights.bind(g, `${name}.weight`, [width]),
      beta: weights.bind(g, `${name}.bias`, [width]),
      epsilon: spec.epsilon,
    }),
    linear: (name: string, outputs: number, inputs: number, biased = true): Linear => ({
      weight: weights.matrix(g, `${name}.weight`, [outputs, inputs]),
      bias: biased ? weights.bind(g, `${name}.bias`, [outputs]) : undefined,
    }),
  };
}
