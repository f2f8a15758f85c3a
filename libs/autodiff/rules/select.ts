import { internal } from '../../errors/error.js';
import type { GraphBuilder } from '../../onnx/builder.js';
import type { Node, Shape, Value } from '../../onnx/ir.js';
import {
  cast,
  equal,
  gather,
  gatherND,
  matMul,
  mul,
  reduceSum,
  reshape,
  scatterND,
  unsqueeze,
  where,
} from '../../onnx/ops/index.js';
import { elementCount } from '../../onnx/shapes.js';
import { linear, spread, unbroadcast, zeros } from '../algebra.js';
import type { RuleFamily } from '../rule.js';

function inputsOf(node: Node): Value[] {
  return node.inputs.map((v, i) => {
    if (!v) throw internal(`${node.name} has an input ${i}`);
    return v;
  });
}

function reduces(node: Node): boolean {
  const reduction = node.attributes['reduction'];
  return reduction?.kind === 'string' && reduction.value === 'add';
}

/**
 * Zeros of a shape, with each row of d added at its coordinates; those may repeat. coordinates [.., K], d [.., rest of the shape after
 * K axes]. A product with the selection, 0 or 1: the runtime's ScatterND adds by several threads at once, and loses sums where
 * coordinates repeat.
 */
function addedAt(g: GraphBuilder, shape: Shape, coordinates: Value, d: Value): Value {
  const axes = Number(coordinates.shape.at(-1));
  const places = elementCount(shape.slice(0, axes));
  const width = elementCount(shape.slice(axes));
  const lead = coordinates.shape.slice(0, -1);
  const count = lead.length === 1 ? lead[0]! : elementCount(lead);
  // One index over the first K axes: Σ i_k · (length of what follows it).
  const strides = shape.slice(0, axes).map((_, k) => elementCount(shape.slice(k + 1, axes)));
  const index = reduceSum(g, mul(g, coordinates, g.integers(strides)), [-1], false);
  const row = reshape(g, index, [count]);
  const every = g.integers([...Array(places).keys()], [places, 1]);
  const selection = cast(g, equal(g, every, unsqueeze(g, row, [0])), d.type as 'float32');
  return reshape(g, matMul(g, selection, reshape(g, d, [count, width])), shape);
}

export const selectRules: RuleFamily<'Gather' | 'GatherND' | 'ScatterND' | 'Where'> = {
  // y = x[i] along axis 0:  ẋ[i];  x̄ = zeros, ȳ added at i
  Gather: {
    pullback: ({ g, node, cotangents: [dy], wanted }) => {
      const [x, indices] = inputsOf(node) as [Value, Value];
      const axis = node.attributes['axis'];
      if (axis?.kind === 'int' && axis.value !== 0)
        throw internal(`${node.name}: only rows are gathered differentiably`);
      if (!wanted[0]) return [];
      return [linear(dy, (d) => addedAt(g, x.shape, unsqueeze(g, indices, [-1]), d))];
    },
    pushforward: ({ g, node, tangents: [dx] }) => [linear(dx, (d) => gather(g, d, inputsOf(node)[1]!, 0))],
  },
  // y = x[i] by coordinates:  ẋ[i];  x̄ = zeros, ȳ added at i
  GatherND: {
    pullback: ({ g, node, cotangents: [dy] }) => {
      const [x, indices] = inputsOf(node) as [Value, Value];
      return [linear(dy, (d) => addedAt(g, x.shape, indices, d))];
    },
    pushforward: ({ g, node, tangents: [dx] }) => [linear(dx, (d) => gatherND(g, d, inputsOf(node)[1]!))],
  },
  // y = x, u added at i:  ẋ, u̇ added at i;  x̄ = ȳ, ū = ȳ[i]
  ScatterND: {
    pullback: ({ g, node, cotangents: [dy], wanted }) => {
      if (!reduces(node)) throw internal(`${node.name}: only sums are scattered differentiably`);
      const indices = inputsOf(node)[1]!;
      return [
        wanted[0] ? dy : undefined,
        undefined,
        wanted[2] ? linear(dy, (d) => gatherND(g, d, indices)) : undefined,
      ];
    },
    pushforward: ({ g, node, tangents: [dx, , du] }) => {
      if (!reduces(node)) throw internal(`${node.name}: only sums are scattered differentiably`);
      const [x, indices] = inputsOf(node) as [Value, Value];
      return [du ? scatterND(g, dx ?? zeros(g, x), indices, du, 'add') : dx];
    },
  },
  // y = c ? a : b:  c ? ȧ : ḃ;  ā = c ? ȳ : 0, b̄ = c ? 0 : ȳ
  Where: {
    pullback: ({ g, node, cotangents: [dy], wanted }) => {
      const [condition, a, b] = inputsOf(node) as [Value, Value, Value];
      const zero = g.constant(0);
      return [
        undefined,
        wanted[1] ? linear(dy, (d) => unbroadcast(g, where(g, condition, d, zero), a.shape)) : undefined,
        wanted[2] ? linear(dy, (d) => unbroadcast(g, where(g, condition, zero, d), b.shape)) : undefined,
      ];
    },
    pushforward: ({ g, node, tangents: [, da, db] }) => {
      const condition = inputsOf(node)[0]!;
      const [y] = node.outputs;
      const zero = g.constant(0);
      const moved = (da ?? db) ? where(g, condition, da ?? zero, db ?? zero) : undefined;
      return [spread(g, moved, y!)];
    },
  },
};
