import { outputSketch } from '../autodiff/hvp.js';
import { internal } from '../errors/error.js';
import type { Checkpoint } from '../models/checkpoint.js';
import { buildClassifier } from '../models/classifier.js';
import type { AtSeam } from '../models/tokens.js';
import type { GraphBuilder } from '../onnx/builder.js';
import type { Graph, Value } from '../onnx/ir.js';
import { add, gemm, max, mul, reciprocal, reduceSum, reshape, sqrt } from '../onnx/ops/index.js';
import { losses } from './losses.js';
import { targetsInput } from './network.js';
import { tokenSummaries } from './seam-features.js';

/** Names of the inputs and outputs of the graphs of this file. */
export const seamNames = {
  direction: (probe: number) => `direction_${probe}`,
  weights: 'weights',
  gate: (block: number) => `gate_${block}`,
  x: (block: number) => `x_${block}`,
  classToken: (block: number) => `class_token_${block}`,
  meanToken: (block: number) => `mean_token_${block}`,
  trace: (block: number) => `trace_${block}`,
  metric: (block: number) => `metric_${block}`,
  gradient: (block: number) => `gradient_${block}`,
  product: (block: number, probe: number) => `product_${block}_${probe}`,
};

/** A trace below this is no more than rounding; its square root can still be divided by. */
const leastTrace = 1e-30;

function features(g: GraphBuilder, x: Value, block: number, sizes: Parameters<typeof tokenSummaries>[2]): Value[] {
  const { classToken, meanToken } = tokenSummaries(g, x, sizes);
  return [
    g.named(seamNames.x(block), x),
    g.named(seamNames.classToken(block), classToken),
    g.named(seamNames.meanToken(block), meanToken),
  ];
}

/**
 * The KL Fisher of every token's residual vector at some seams. Inputs `pixel_values`, `direction_c` [batch, classes] for each of
 * `directions` cotangents R r of the logits, `weights` [batch, 1] (0 leaves a sample out of the metric). With
 * G_c = ∂(R r_c · logits)/∂x, outputs by block: `trace` s [batch · tokens, 1] = Σ_c |G_c|², `metric` [hidden, hidden] =
 * Σ over samples and patch tokens of Σ_c G_cᵀ G_c / s, and the features.
 */
export function seamCurvatureGraph(
  checkpoint: Checkpoint,
  { blocks, directions, batch }: { blocks: readonly number[]; directions: number; batch: number },
): Graph {
  const { g, logits, seams, spec } = buildClassifier(checkpoint, {
    lowering: 'canonical',
    batch,
    name: 'seam-curvature',
  });
  const { tokens, special, hidden, classes } = spec;
  const chosen = blocks.map((block) => seams[block]!);
  const cotangents = Array.from({ length: directions }, (_, c) =>
    g.input(seamNames.direction(c), g.float, [batch, classes]),
  );
  const weights = g.input(seamNames.weights, g.float, [batch, 1]);
  const patchMask = g.constant(
    Array.from({ length: tokens }, (_, i) => (i < special ? 0 : 1)),
    [1, tokens],
  );
  const counted = reshape(g, mul(g, weights, patchMask), [batch * tokens, 1]);
  const pulled = outputSketch(g, logits, chosen, cotangents);
  const outputs: Value[] = [];
  blocks.forEach((block, stage) => {
    const parts = pulled.map((values) => values[stage]!);
    const trace = parts.map((part) => reduceSum(g, mul(g, part, part), [1])).reduce((a, b) => add(g, a, b));
    // G / √s, so that what is multiplied is of the order of one
    const scale = mul(g, counted, reciprocal(g, sqrt(g, max(g, trace, leastTrace))));
    const metric = parts
      .map((part) => {
        const scaled = mul(g, part, scale);
        return gemm(g, scaled, scaled, undefined, { transA: true });
      })
      .reduce((a, b) => add(g, a, b));
    outputs.push(
      g.named(seamNames.trace(block), trace),
      g.named(seamNames.metric(block), metric),
      ...features(g, chosen[stage]!, block, { batch, tokens, special, hidden }),
    );
  });
  return g.build(outputs);
}

/**
 * Derivatives of the cross-entropy by a gate on every token at some seams. Inputs `pixel_values`, `targets` (the labels) [batch], for each
 * block `gate` [batch, tokens] (ones), and with `probes` as many `direction_k` [batch, tokens]. Outputs by block: `gradient`, the
 * features, and `product_b_k` = H v over the gates of that block alone.
 */
export function seamGateGraph(
  checkpoint: Checkpoint,
  { blocks, probes, batch }: { blocks: readonly number[]; probes: number; batch: number },
): Graph {
  const gates = new Map<number, Value>();
  const before = new Map<number, Value>();
  const atSeam: AtSeam = (g, { block, tokens }) => {
    const count = tokens.layout.longest;
    const gate = g.input(seamNames.gate(block), g.float, [batch, count]);
    gates.set(block, gate);
    before.set(block, tokens.rows);
    return { ...tokens, rows: mul(g, tokens.rows, reshape(g, gate, [tokens.layout.rows, 1])) };
  };
  const { g, logits, spec } = buildClassifier(checkpoint, {
    lowering: 'canonical',
    batch,
    atSeams: new Map(blocks.map((block) => [block, atSeam])),
    name: 'seam-gates',
  });
  const { tokens, special, hidden } = spec;
  const targets = g.input(targetsInput, 'int64', [batch]);
  const directions = Array.from({ length: probes }, (_, k) =>
    g.input(seamNames.direction(k), g.float, [batch, tokens]),
  );
  const answer = { logits, targets };
  const wrt = blocks.map((block) => gates.get(block)!);
  const gradients = losses['cross-entropy'].gradient(g, answer, wrt);
  if (!gradients) throw internal('cross-entropy has a gradient');
  const outputs: Value[] = [];
  blocks.forEach((block, stage) => {
    outputs.push(g.named(seamNames.gradient(block), gradients[stage]!));
    outputs.push(...features(g, before.get(block)!, block, { batch, tokens, special, hidden }));
    // One block's gates at a time: what they have to do with another block's is no part of the score.
    const products = losses['cross-entropy'].products(
      g,
      answer,
      wrt,
      directions.map((direction) => wrt.map((_, i) => (i === stage ? direction : undefined))),
    );
    products.forEach((parts, k) => outputs.push(g.named(seamNames.product(block, k), parts[stage]!)));
  });
  return g.build(outputs);
}
