import { internal } from '../../errors/error.js';
import type { GraphBuilder } from '../../onnx/builder.js';
import type { Node, Value } from '../../onnx/ir.js';
import { concat, gemm, matMul, transposeLast } from '../../onnx/ops/index.js';
import { sameShape } from '../../onnx/shapes.js';
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

/**
 * Whether Ȧ B + A Ḃ is cheaper as one product over twice the inner dimension: when that is the small one (a head's width against
 * the tokens), joining the factors costs little and a sum over the large result is saved.
 */
function joins(a: Value, b: Value): boolean {
  const [rows, inner] = a.shape.slice(-2);
  const columns = b.shape.at(-1);
  if (typeof inner !== 'number' || typeof rows !== 'number' || typeof columns !== 'number') return false;
  return 2 * inner <= Math.min(rows, columns) && sameShape(a.shape.slice(0, -2), b.shape.slice(0, -2));
}

/** [B; Ḃ] along the inner dimension; factors that are both transposed are joined before that, so that a product can absorb it. */
function joinInner(g: GraphBuilder, b: Value, db: Value): Value {
  const [x, dx] = [b, db].map((value) => transposed(g, value));
  return x && dx ? transposeLast(g, concat(g, [x, dx], -1)) : concat(g, [b, db], -2);
}

/** The value whose last two axes are exchanged in this one. */
function transposed(g: GraphBuilder, value: Value): Value | undefined {
  const node = g.producer(value);
  const perm = node?.op === 'Transpose' ? node.attributes['perm'] : undefined;
  const rank = value.shape.length;
  const swaps = perm?.kind === 'ints' && perm.value.every((axis, i) => axis === (i < rank - 2 ? i : 2 * rank - 3 - i));
  return swaps ? node?.inputs[0] : undefined;
}

export const linearRules: RuleFamily<'MatMul' | 'Gemm'> = {
  // Y = A B:  Ȧ B + A Ḃ = [Ȧ A] [B; Ḃ];  Ā = Ȳ Bᵀ, B̄ = Aᵀ Ȳ
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
      if (da && db && joins(a, b)) return [matMul(g, concat(g, [da, a], -1), joinInner(g, b, db))];
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
