import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { GraphBuilder } from './builder.js';
import { countFlops } from './flops.js';
import type { Dim, Value } from './ir.js';
import * as o from './ops/index.js';

const vector = (g: GraphBuilder, size: number): Value => g.constant(Array<number>(size).fill(1), [size]);
const matrix = (g: GraphBuilder, rows: number, columns: number): Value =>
  g.constant(Array<number>(rows * columns).fill(1), [rows, columns]);

/** Softmax attention of T tokens of width D by H heads, canonical. */
function attention(g: GraphBuilder, x: Value, batch: Dim, tokens: number, width: number, heads: number): Value {
  const split = (v: Value, perm: readonly number[]): Value =>
    o.transpose(g, o.reshape(g, v, [batch, tokens, heads, width / heads]), perm);
  const q = split(o.matMul(g, x, matrix(g, width, width)), [0, 2, 1, 3]);
  const scores = o.matMul(g, q, o.transposeLast(g, split(x, [0, 2, 1, 3])));
  const context = o.matMul(g, o.softmax(g, scores), split(x, [0, 2, 1, 3]));
  return o.reshape(g, o.transpose(g, context, [0, 2, 1, 3]), [batch, tokens, width]);
}

describe('countFlops', () => {
  it('of an MLP with a normalisation and a residual, by hand', () => {
    const g = new GraphBuilder('mlp');
    const x = g.input('x', 'float32', ['B', 6]);
    const { y } = o.layerNormalization(g, x, vector(g, 6), vector(g, 6), 1e-5);
    const hidden = o.gelu(g, o.gemm(g, y, matrix(g, 10, 6), vector(g, 10), { transB: true }));
    const out = o.add(g, x, o.gemm(g, hidden, matrix(g, 10, 6)));
    const { total, byOp } = countFlops(g.build([out]), { B: 3 });
    assert.deepEqual(byOp, {
      LayerNormalization: 7 * 3 * 6,
      Gemm: 3 * 10 * (2 * 6 + 1) + 3 * 6 * (2 * 10),
      Gelu: 8 * 3 * 10,
      Add: 3 * 6,
    });
    assert.equal(
      total,
      Object.values(byOp).reduce((a, b) => a + b),
    );
  });

  it('of attention, by hand; the fused operator counts the same', () => {
    const [batch, tokens, width, heads] = [2, 5, 8, 4];
    const g = new GraphBuilder('attention');
    const x = g.input('x', 'float32', ['B', tokens, width]);
    const { byOp } = countFlops(g.build([attention(g, x, 'B', tokens, width, heads)]), { B: batch });
    const products = 2 * 2 * batch * tokens * tokens * width;
    const softmax = 5 * batch * heads * tokens * tokens;
    assert.deepEqual(byOp, { MatMul: 2 * batch * tokens * width * width + products, Softmax: softmax });
    const f = new GraphBuilder('fused');
    const z = f.input('z', 'float32', ['B', tokens, width]);
    const bias = f.input('bias', 'float32', ['B', 1, tokens, tokens]);
    const plain = countFlops(f.build([o.multiHeadAttention(f, z, z, z, { heads })]), { B: batch });
    assert.equal(plain.total, products + softmax);
    const biased = countFlops(f.build([o.multiHeadAttention(f, z, z, z, { heads, bias })]), { B: batch });
    assert.equal(biased.total - plain.total, batch * heads * tokens * tokens);
  });

  it('of transposed factors, fused normalisations, scatters and reductions', () => {
    const g = new GraphBuilder('others');
    const [a, b] = [g.input('a', 'float32', [7, 2]), g.input('b', 'float32', [3, 7])];
    const flopsOf = (value: Value) => countFlops(g.build([value])).total;
    assert.equal(flopsOf(o.gemm(g, a, b, undefined, { transA: true, transB: true })), 2 * 7 * 2 * 3);
    assert.equal(flopsOf(o.reduceSum(g, a, [0])), 14);
    const row = vector(g, 2);
    assert.equal(flopsOf(o.skipLayerNormalization(g, a, a, row, row, undefined, 1e-5).y), 8 * 14);
    assert.equal(flopsOf(o.skipLayerNormalization(g, a, a, row, row, row, 1e-5).y), 9 * 14);
    assert.equal(flopsOf(o.biasGelu(g, a, row)), 9 * 14);
    const at = g.integers([0, 1], [2, 1]);
    assert.equal(flopsOf(o.scatterND(g, a, at, g.input('u', 'float32', [2, 2]), 'add')), 4);
    assert.equal(flopsOf(o.transposeLast(g, o.slice(g, a, 0, 1, 3))), 0);
    assert.equal(flopsOf(o.where(g, o.less(g, a, row), a, row)), 28);
  });

  it('names the symbol that is not bound, and the operator that it does not know', () => {
    const g = new GraphBuilder('open');
    const x = g.input('x', 'float32', ['B', 'kept', 4]);
    const graph = g.build([o.exp(g, x)]);
    assert.throws(() => countFlops(graph, { B: 2 }), /symbol kept of Exp_0 \[B, kept, 4\] is not bound/);
    assert.equal(countFlops(graph, { B: 2, kept: 3 }).total, 24);
    const y = g.emitOne({ op: 'Conv', inputs: [x, x], output: x });
    assert.throws(() => countFlops(g.build([y]), { B: 2, kept: 3 }), /no count .* of Conv/);
  });

  it('a product of a symbol follows from its factors unless it is bound itself', () => {
    const g = new GraphBuilder('rows');
    const graph = g.build([o.exp(g, g.input('x', 'float32', ['B·5', 2]))]);
    assert.equal(countFlops(graph, { B: 3 }).total, 30);
    assert.equal(countFlops(graph, { 'B·5': 4 }).total, 8);
    assert.throws(() => countFlops(graph, { N: 3 }), /symbol B of .* is not bound/);
  });

  it('twice the batch, twice the operations', () => {
    const size = fc.integer({ min: 1, max: 6 });
    fc.assert(
      fc.property(size, size, size, size, (batch, tokens, heads, perHead) => {
        const g = new GraphBuilder('batched');
        const width = heads * perHead;
        const x = g.input('x', 'float32', ['B', tokens, width]);
        const y = attention(g, x, 'B', tokens, width, heads);
        const rows = o.reshape(g, y, [`B·${tokens}`, width]);
        const graph = g.build([o.gelu(g, o.gemm(g, rows, matrix(g, width, 3), vector(g, 3)))]);
        const [once, twice] = [batch, 2 * batch].map((B) => countFlops(graph, { B }).total);
        assert.equal(twice, 2 * once!);
      }),
    );
  });
});
