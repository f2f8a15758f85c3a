import { internal } from '../../errors/error.js';
import type { GraphBuilder } from '../../onnx/builder.js';
import type { Node, Value } from '../../onnx/ir.js';
import { numbersOf } from '../../onnx/tensor.js';
import {
  concat,
  expandTo,
  padZeros,
  reshape,
  reshapeTo,
  shapeOf,
  slice,
  squeeze,
  transpose,
  unsqueeze,
} from '../../onnx/ops/index.js';
import { linear, unbroadcast, zeros } from '../algebra.js';
import type { Derivative, Rule, RuleFamily } from '../rule.js';

function parts(node: Node): { x: Value; argument: Value | undefined; y: Value } {
  const [x, argument] = node.inputs;
  const [y] = node.outputs;
  if (!x || !y) throw internal(`${node.name} has an input and an output`);
  return { x, argument, y };
}

function constantOf(g: GraphBuilder, node: Node, index: number): readonly number[] {
  const input = node.inputs[index];
  const tensor = input && g.tensorOf(input);
  const numbers = tensor && numbersOf(tensor);
  if (!numbers) throw internal(`input ${index} of ${node.name} must be a constant`);
  return numbers;
}

/** Back to the shape of x: by a constant where at most one dimension is a symbol, else by x's own shape. */
function reshapeLike(g: GraphBuilder, d: Value, x: Value): Value {
  const symbols = x.shape.filter((dim) => typeof dim !== 'number').length;
  return symbols <= 1 ? reshape(g, d, x.shape) : reshapeTo(g, d, shapeOf(g, x), x.shape);
}

/** An operator that only moves elements: the tangent moves as they do, the cotangent moves back. */
function movement(
  forward: (g: GraphBuilder, node: Node, tangent: Value) => Value,
  back: (g: GraphBuilder, node: Node, cotangent: Value) => Value,
): Rule {
  return {
    pullback: ({ g, node, cotangents: [dy] }) => [linear(dy, (d) => back(g, node, d))],
    pushforward: ({ g, node, tangents: [dx] }) => [linear(dx, (d) => forward(g, node, d))],
  };
}

/** The same operator with another first input. */
function again(g: GraphBuilder, node: Node, x: Value): Value {
  const { y } = parts(node);
  return g.emitOne({
    op: node.op,
    inputs: [x, ...node.inputs.slice(1)],
    attributes: node.attributes,
    output: { type: y.type, shape: y.shape },
  });
}

function permutation(node: Node): readonly number[] {
  const perm = node.attributes['perm'];
  if (perm?.kind !== 'ints') throw internal(`${node.name} has a permutation`);
  return perm.value;
}

export const shapeRules: RuleFamily<
  'Reshape' | 'Transpose' | 'Expand' | 'Concat' | 'Slice' | 'Pad' | 'Squeeze' | 'Unsqueeze'
> = {
  // y = reshape x:  x̄ = ȳ in the shape of x
  Reshape: movement(again, (g, node, d) => reshapeLike(g, d, parts(node).x)),
  // y = xᵖ:  x̄ = ȳ by the inverse permutation
  Transpose: movement(again, (g, node, d) => {
    const perm = permutation(node);
    return transpose(
      g,
      d,
      perm.map((_, i) => perm.indexOf(i)),
    );
  }),
  // y = x broadcast:  x̄ = ȳ summed over what was broadcast
  Expand: movement(
    (g, node, d) => expandTo(g, d, parts(node).argument!, parts(node).y.shape),
    (g, node, d) => unbroadcast(g, d, parts(node).x.shape),
  ),
  // y = [a; b; …]:  ẏ = [ȧ; ḃ; …];  ā = the slice of ȳ where a lies
  Concat: {
    pullback: ({ g, node, cotangents: [dy], wanted }) => {
      const axis = concatAxis(node);
      let offset = 0;
      return node.inputs.map((v, i): Derivative => {
        const size = v!.shape[axis];
        if (typeof size !== 'number') throw internal(`${node.name} joins a dimension that is not known`);
        const start = offset;
        offset += size;
        return wanted[i] ? linear(dy, (d) => slice(g, d, axis, start, start + size)) : undefined;
      });
    },
    pushforward: ({ g, node, tangents }) => {
      if (!tangents.some(Boolean)) return [];
      const terms = node.inputs.map((v, i) => tangents[i] ?? zeros(g, v!));
      return [concat(g, terms, concatAxis(node), parts(node).y.shape[concatAxis(node)])];
    },
  },
  // y = x[start:end]:  x̄ = ȳ with zeros around it
  Slice: movement(again, (g, node, d) => {
    const { x } = parts(node);
    const [start, end, axis, step] = [1, 2, 3, 4].map((i) => (node.inputs[i] ? constantOf(g, node, i)[0]! : 1));
    const size = x.shape[axis!];
    if (typeof size !== 'number' || step !== 1) throw internal(`${node.name} cuts a dimension that is not known`);
    const from = start! < 0 ? start! + size : start!;
    const to = Math.min(end! < 0 ? end! + size : end!, size);
    return padZeros(g, d, axis!, from, size - to);
  }),
  // y = zeros around x:  x̄ = the middle of ȳ
  Pad: movement(again, (g, node, d) => {
    const { x } = parts(node);
    const pads = constantOf(g, node, 1);
    return x.shape.reduce<Value>((out, size, axis) => {
      const before = pads[axis]!;
      if (before === 0 && pads[axis + x.shape.length] === 0) return out;
      return slice(g, out, axis, before, before + Number(size));
    }, d);
  }),
  Squeeze: movement(again, (g, node, d) => unsqueeze(g, d, constantOf(g, node, 1))),
  Unsqueeze: movement(again, (g, node, d) => squeeze(g, d, constantOf(g, node, 1))),
};

function concatAxis(node: Node): number {
  const axis = node.attributes['axis'];
  if (axis?.kind !== 'int') throw internal(`${node.name} has an axis`);
  return axis.value;
}
