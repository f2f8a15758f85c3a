/** The graph that fits a probe: squared error and its gradient by the weights, which are inputs. */
import { pullback } from '../../autodiff/pullback.js';
import { internal } from '../../errors/error.js';
import { GraphBuilder } from '../../onnx/builder.js';
import type { Graph } from '../../onnx/ir.js';
import { add, gelu, gemm, matMul, mul, reduceSum, sub } from '../../onnx/ops/index.js';

/** The weights of a probe of D features and h hidden units; `shared` is B over C. A single row stands for a vector. */
export function probeWeights(D: number, h: number): { name: WeightName; dims: number[] }[] {
  return [
    { name: 'tokens.weight', dims: [D, h] },
    { name: 'shared.weight', dims: [2 * D, h] },
    { name: 'hidden.bias', dims: [h] },
    { name: 'output.weight', dims: [h, 1] },
    { name: 'output.bias', dims: [1] },
  ];
}

export type WeightName = 'tokens.weight' | 'shared.weight' | 'hidden.bias' | 'output.weight' | 'output.bias';

/** The name of the output that is a weight's gradient. */
export const gradientOf = (weight: string): string => `gradient:${weight}`;

/**
 * Inputs: `tokens` [R, D], `images` [I, 2D], `member` [R, I] (1 where the row is of the image), `target` [R, 1], the weights.
 * Outputs: `loss` = Σ (prediction − target)², [1, 1], and the gradient by every weight.
 */
export function probeGradientGraph(D: number, h: number): Graph {
  const g = new GraphBuilder('probe-step');
  const tokens = g.input('tokens', 'float32', ['R', D]);
  const images = g.input('images', 'float32', ['I', 2 * D]);
  const member = g.input('member', 'float32', ['R', 'I']);
  const target = g.input('target', 'float32', ['R', 1]);
  const weights = probeWeights(D, h).map(({ name, dims }) => g.input(name, 'float32', dims));
  const [A, BC, b1, w2, b2] = weights;
  if (!A || !BC || !b1 || !w2 || !b2) throw internal('a probe has five weights');
  // Rows get their image's share by a product: it has no order of summation that could vary, as a scatter in its gradient would.
  const own = gemm(g, tokens, A, b1);
  const u = gelu(g, add(g, own, matMul(g, member, gemm(g, images, BC))));
  const error = sub(g, gemm(g, u, w2, b2), target);
  const loss = reduceSum(g, mul(g, error, error), [0, 1]);
  const gradients = pullback(g, [loss], [g.constant([1], [1, 1])], weights);
  const outputs = gradients.map((gradient, at) => {
    const { name } = weights[at]!;
    if (!gradient) throw internal(`the error of a probe does not depend on ${name}`);
    return g.named(gradientOf(name), gradient);
  });
  return g.build([g.named('loss', loss), ...outputs]);
}
