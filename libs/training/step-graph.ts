/** The graphs that training a ViT runs: loss and gradient by weights, and the logits alone, with the weights as inputs. */
import { internal } from '../errors/error.js';
import { pullback } from '../autodiff/pullback.js';
import { GraphBuilder } from '../onnx/builder.js';
import type { Graph, Value } from '../onnx/ir.js';
import { logSoftmax, mul, reduceSum } from '../onnx/ops/index.js';
import { gradientOf } from './task.js';
import { vitLogits, vitWeights, type VitShape } from './vit-graph.js';

function forward(
  name: string,
  shape: VitShape,
  batch: number,
): { g: GraphBuilder; weights: Map<string, Value>; logits: Value } {
  const g = new GraphBuilder(name);
  const pixels = g.input('pixel_values', 'float32', [batch, shape.channels, shape.imageSize, shape.imageSize]);
  const weights = new Map(
    vitWeights(shape).map((weight) => [weight.name, g.input(weight.name, 'float32', weight.dims)]),
  );
  return { g, weights, logits: vitLogits(g, pixels, shape, weights) };
}

/**
 * Cross-entropy against target distributions, −Σ q log p summed over the batch: inputs `pixel_values`, `targets`
 * [batch, classes] and the weights; outputs `loss` [1, 1], `logits` and the gradient by every weight.
 */
export function gradientGraph(shape: VitShape, batch: number): Graph {
  const { g, weights, logits } = forward('training-step', shape, batch);
  const targets = g.input('targets', 'float32', [batch, shape.classes]);
  const loss = mul(g, reduceSum(g, mul(g, targets, logSoftmax(g, logits)), [0, 1]), -1);
  const wanted = [...weights.keys()];
  const gradients = pullback(g, [loss], [g.constant([1], [1, 1])], [...weights.values()]);
  const outputs = gradients.map((gradient, at) => {
    const name = wanted[at] as string;
    if (!gradient) throw internal(`the loss does not depend on ${name}`);
    return g.named(gradientOf(name), gradient);
  });
  return g.build([g.named('loss', loss), g.named('logits', logits), ...outputs]);
}

/** The logits alone: inputs `pixel_values` and the weights, output `logits` [batch, classes]. */
export function logitsGraph(shape: VitShape, batch: number): Graph {
  const { g, logits } = forward('forward', shape, batch);
  return g.build([g.named('logits', logits)]);
}
