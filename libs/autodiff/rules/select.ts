import { internal } from '../../errors/error.js';
import type { Node, Value } from '../../onnx/ir.js';
import { gather, gatherND, scatterND, unsqueeze, where } from '../../onnx/ops/index.js';
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

export const selectRules: RuleFamily<'Gather' | 'GatherND' | 'ScatterND' | 'Where'> = {
  // y = x[i] along axis 0:  ẋ[i];  x̄ = zeros, ȳ added at i
  Gather: {
    pullback: ({ g, node, cotangents: [dy], wanted }) => {
      const [x, indices] = inputsOf(node) as [Value, Value];
      const axis = node.attributes['axis'];
      if (axis?.kind === 'int' && axis.value !== 0)
        throw internal(`${node.name}: only rows are gathered differentiably`);
      if (!wanted[0]) return [];
      return [linear(dy, (d) => scatterND(g, zeros(g, x), unsqueeze(g, indices, [-1]), d, 'add'))];
    },
    pushforward: ({ g, node, tangents: [dx] }) => [linear(dx, (d) => gather(g, d, inputsOf(node)[1]!, 0))],
  },
  // y = x[i] by coordinates:  ẋ[i];  x̄ = zeros, ȳ added at i
  GatherND: {
    pullback: ({ g, node, cotangents: [dy] }) => {
      const [x, indices] = inputsOf(node) as [Value, Value];
      return [linear(dy, (d) => scatterND(g, zeros(g, x), indices, d, 'add'))];
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
