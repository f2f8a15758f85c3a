/** The shapes of a GPT-NeoX to be trained, its weights by their names in a Hugging Face checkpoint, and the graphs that training runs. */
import { pullback } from '../autodiff/pullback.js';
import { internal } from '../errors/error.js';
import type { CausalSpec } from '../models/architectures/gpt-neox.js';
import { causalTransformer } from '../models/causal-transformer.js';
import { canonical } from '../models/layers/canonical.js';
import { inputWeights } from '../models/weights.js';
import { GraphBuilder } from '../onnx/builder.js';
import type { Graph, Value } from '../onnx/ir.js';
import { cast, equal, gemm, logSoftmax, mul, reduceSum, reshape, softmax, sub, unsqueeze } from '../onnx/ops/index.js';
import type { WeightShape } from './parameters.js';
import { gradientOf } from './task.js';

export interface CausalShape {
  readonly vocabulary: number;
  /** Positions that the model is made for. */
  readonly context: number;
  readonly hidden: number;
  readonly layers: number;
  readonly heads: number;
  readonly intermediate: number;
  /** The share of a head that the rotary embedding turns. */
  readonly rotary: number;
  readonly epsilon: number;
}

const prefix = 'gpt_neox';
const embedding = `${prefix}.embed_in.weight`;

/** Weights of the embedding, the blocks and the head, by their names in a Hugging Face checkpoint and in its order. */
export function causalWeights({ vocabulary, hidden, intermediate, layers }: CausalShape): WeightShape[] {
  const weights: WeightShape[] = [{ name: embedding, dims: [vocabulary, hidden] }];
  const affine = (name: string, outputs: number, inputs: number) =>
    weights.push({ name: `${name}.weight`, dims: [outputs, inputs] }, { name: `${name}.bias`, dims: [outputs] });
  const norm = (name: string) =>
    weights.push({ name: `${name}.weight`, dims: [hidden] }, { name: `${name}.bias`, dims: [hidden] });
  for (let layer = 0; layer < layers; layer++) {
    const block = `${prefix}.layers.${layer}`;
    norm(`${block}.input_layernorm`);
    norm(`${block}.post_attention_layernorm`);
    affine(`${block}.attention.query_key_value`, 3 * hidden, hidden);
    affine(`${block}.attention.dense`, hidden, hidden);
    affine(`${block}.mlp.dense_h_to_4h`, intermediate, hidden);
    affine(`${block}.mlp.dense_4h_to_h`, hidden, intermediate);
  }
  norm(`${prefix}.final_layer_norm`);
  weights.push({ name: 'embed_out.weight', dims: [vocabulary, hidden] });
  return weights;
}

/** The network's shape as libs/models reads it from a config. */
export function causalSpec(shape: CausalShape): CausalSpec {
  const { vocabulary, context, hidden, layers, heads, intermediate, rotary, epsilon } = shape;
  const headWidth = hidden / heads;
  return {
    architecture: 'GPTNeoXForCausalLM',
    prefix,
    hidden,
    headWidth,
    rotary: { width: Math.trunc(headWidth * rotary), base: 10_000 },
    parallelResidual: true,
    tied: false,
    vocabulary,
    context,
    epsilon,
    activation: 'gelu',
    attentionBias: true,
    blocks: Array.from({ length: layers }, () => ({ heads, neurons: intermediate })),
  };
}

function forward(name: string, shape: CausalShape, batch: number, positions: number) {
  const g = new GraphBuilder(name);
  const inputIds = g.input('input_ids', 'int64', [batch, positions]);
  const weights = new Map(
    causalWeights(shape).map((weight) => [weight.name, g.input(weight.name, 'float32', weight.dims)]),
  );
  const inputs = { spec: causalSpec(shape), weights: inputWeights(weights), layers: canonical, gates: new Map() };
  return { g, inputIds, weights, ...causalTransformer(g, inputIds, inputs) };
}

/** One-hot rows [rows, classes] of numbers int64 of so many elements. */
function oneHot(g: GraphBuilder, numbers: Value, rows: number, classes: number): Value {
  const every = g.integers(Array.from({ length: classes }, (_, at) => at));
  return cast(g, equal(g, unsqueeze(g, reshape(g, numbers, [rows]), [-1]), every), 'float32');
}

/**
 * Cross-entropy of the next tokens, −Σ log p summed over batch and positions: inputs `input_ids` and `targets`, int64 [batch, positions],
 * and the weights; outputs `loss` [1, 1] and the gradient by every weight.
 */
export function causalGradientGraph(shape: CausalShape, batch: number, positions: number): Graph {
  const { g, inputIds, weights, logits, entering } = forward('training-step', shape, batch, positions);
  const targets = g.input('targets', 'int64', [batch, positions]);
  const rows = batch * positions;
  const answers = reshape(g, logits, [rows, shape.vocabulary]);
  const y = oneHot(g, targets, rows, shape.vocabulary);
  const loss = mul(g, reduceSum(g, mul(g, y, logSoftmax(g, answers)), [0, 1]), -1);
  // ∂loss/∂logits = p − y.
  const slope = sub(g, softmax(g, answers), y);
  const wanted = [...weights.keys()].filter((name) => name !== embedding);
  const stream = entering[0]!;
  const found = pullback(g, [answers], [slope], [stream, ...wanted.map((name) => weights.get(name)!)]);
  const output = (name: string, gradient: Value | undefined) => {
    if (!gradient) throw internal(`the loss does not depend on ${name}`);
    return g.named(gradientOf(name), gradient);
  };
  // A row of the embedding gets the sum over the positions of its token: as a product, since the runtime's ScatterND adds in any order.
  const byToken = gemm(g, oneHot(g, inputIds, rows, shape.vocabulary), found[0]!, undefined, { transA: true });
  return g.build([
    g.named('loss', loss),
    output(embedding, byToken),
    ...wanted.map((name, at) => output(name, found[at + 1])),
  ]);
}

/** The logits alone: inputs `input_ids` and the weights, output `logits` [batch, positions, vocabulary]. */
export function causalLogitsGraph(shape: CausalShape, batch: number, positions: number): Graph {
  const { g, logits } = forward('forward', shape, batch, positions);
  return g.build([g.named('logits', logits)]);
}
