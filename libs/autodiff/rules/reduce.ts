import { internal } from '../../errors/error.js';
import type { GraphBuilder } from '../../onnx/builder.js';
import type { Node, Value } from '../../onnx/ir.js';
import { numbersOf } from '../../onnx/tensor.js';
import { axisOf } from '../../onnx/shapes.js';
import { div, expandLike, reduceMean, reduceSum, shapeOf, gather, cast, mul, unsqueeze } from '../../onnx/ops/index.js';
import { linear } from '../algebra.js';
import type { RuleFamily } from '../rule.js';

function reduction(g: GraphBuilder, node: Node): { x: Value; axes: number[]; keepDims: boolean } {
  const [x, axes] = node.inputs;
  const tensor = axes && g.tensorOf(axes);
  const numbers = tensor && numbersOf(tensor);
  if (!x || !numbers) throw internal(`${node.name} has constant axes`);
  const keep = node.attributes['keepdims'];
  return {
    x,
    axes: numbers.map((axis) => axisOf(axis, x.shape.length)),
    keepDims: !(keep?.kind === 'int' && keep.value === 0),
  };
}

/** The cotangent of a reduction, spread over the axes that were reduced. */
function spreadBack(g: GraphBuilder, node: Node, dy: Value): Value {
  const { x, axes, keepDims } = reduction(g, node);
  return expandLike(g, keepDims ? dy : unsqueeze(g, dy, axes), x);
}

/** How many elements a mean is over: a constant, or read from the shape where an axis is a symbol. */
function count(g: GraphBuilder, x: Value, axes: readonly number[]): Value {
  let known = 1;
  let total: Value | undefined;
  for (const axis of axes) {
    const dim = x.shape[axis]!;
    if (typeof dim === 'number') known *= dim;
    else {
      const size = cast(g, gather(g, shapeOf(g, x), g.integers(axis)), g.float);
      total = total ? mul(g, total, size) : size;
    }
  }
  return total ? mul(g, total, known) : g.constant(known);
}

export const reduceRules: RuleFamily<'ReduceSum' | 'ReduceMean'> = {
  // y = Σ x:  Σ ẋ;  x̄ = ȳ everywhere
  ReduceSum: {
    pullback: ({ g, node, cotangents: [dy] }) => [linear(dy, (d) => spreadBack(g, node, d))],
    pushforward: ({ g, node, tangents: [dx] }) => {
      const { axes, keepDims } = reduction(g, node);
      return [linear(dx, (d) => reduceSum(g, d, axes, keepDims))];
    },
  },
  // y = (1/n) Σ x:  (1/n) Σ ẋ;  x̄ = ȳ / n everywhere
  ReduceMean: {
    pullback: ({ g, node, cotangents: [dy] }) => {
      const { x, axes } = reduction(g, node);
      return [linear(dy, (d) => spreadBack(g, node, div(g, d, count(g, x, axes))))];
    },
    pushforward: ({ g, node, tangents: [dx] }) => {
      const { axes, keepDims } = reduction(g, node);
      return [linear(dx, (d) => reduceMean(g, d, axes, keepDims))];
    },
  },
};
