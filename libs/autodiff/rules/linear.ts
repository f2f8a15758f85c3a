import { internal } from '../../errors/error.js';
import type { Node, Value } from '../../onnx/ir.js';
import { gemm, matMul, transposeLast } from '../../onnx/ops/index.js';
import { linear, spread, sum, unbroadcast } from '../algebra.js';
import type { RuleFamily } from '../rule.js';

function factors(node: Node): { a: Value; b: Value; c: Value | undefined; y: Value } {
  const [a, b, c] = node.inputs;
  const [y] = node.outputs;
  if (!a || !b || !y) throw internal(`${node.name} has two factors`);
  return { a, b, c, y };
}

function flag(node: Node, name: string): boolean {
  const attribute = node.attributes[name];
  return attribute?.kind === 'int' && attribute.value === 1;
}

export const linearRules: RuleFamily<'MatMul' | 'Gemm'> = {
  // Y = A B:  Ȧ B + A Ḃ;  Ā = Ȳ Bᵀ, B̄ = Aᵀ Ȳ
  MatMul: {
    pullback: ({ g, node, cotangents: [dy], wanted }) => {
      const { a, b } = factors(node);
      return [
        wanted[0] ? linear(dy, (d) => unbroadcast(g, matMul(g, d, transposeLast(g, b)), a.shape)) : undefined,
        wanted[1] ? linear(dy, (d) => unbroadcast(g, matMul(g, transposeLast(g, a), d), b.shape)) : undefined,
      ];
    },
    pushforward: ({ g, node, tangents: [da, db] }) => {
      const { a, b } = factors(node);
      return [
        sum(
          g,
          linear(da, (d) => matMul(g, d, b)),
          linear(db, (d) => matMul(g, a, d)),
        ),
      ];
    },
  },
  // Y = op(A) op(B) + C:  op(Ȧ) op(B) + op(A) op(Ḃ) + Ċ
  // Ā = Ȳ op(B)ᵀ (transposed again if A was), B̄ = op(A)ᵀ Ȳ (likewise), C̄ = Ȳ
  Gemm: {
    pullback: ({ g, node, cotangents: [dy], wanted }) => {
      const { a, b, c } = factors(node);
      const [transA, transB] = [flag(node, 'transA'), flag(node, 'transB')];
      if (!dy) return [];
      return [
        wanted[0]
          ? transA
            ? gemm(g, b, dy, undefined, { transA: transB, transB: true })
            : gemm(g, dy, b, undefined, { transB: !transB })
          : undefined,
        wanted[1]
          ? transB
            ? gemm(g, dy, a, undefined, { transA: true, transB: transA })
            : gemm(g, a, dy, undefined, { transA: !transA })
          : undefined,
        c && wanted[2] ? unbroadcast(g, dy, c.shape) : undefined,
      ];
    },
    pushforward: ({ g, node, tangents: [da, db, dc] }) => {
      const { a, b, y } = factors(node);
      const options = { transA: flag(node, 'transA'), transB: flag(node, 'transB') };
      const product = sum(
        g,
        linear(da, (d) => gemm(g, d, b, undefined, options)),
        linear(db, (d) => gemm(g, a, d, undefined, options)),
      );
      return [product ? sum(g, product, dc) : spread(g, dc, y)];
    },
  },
};
