import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { blockedProducts } from './blocked-products.js';
import { GraphBuilder } from './builder.js';
import { gather, gemm, relu } from './ops/index.js';
import { floatTensor } from './tensor.js';

/** Rows of a table, a product with them (tied) and one of so many columns. */
function network(columns: number) {
  const g = new GraphBuilder('network');
  const weight = (name: string, rows: number, width: number) =>
    g.initializer(name, floatTensor('float32', [rows, width], new Float32Array(rows * width).fill(0.5)));
  const table = weight('table', 5, columns);
  const bias = g.initializer('bias', floatTensor('float32', [columns], new Float32Array(columns)));
  const rows = gather(g, table, g.input('ids', 'int64', ['R']));
  const inner = relu(g, gemm(g, rows, weight('square', columns, columns), bias, { transB: true }));
  return g.build([g.named('logits', gemm(g, inner, table, undefined, { transB: true }))]);
}

describe('products as convolutions', () => {
  test('every product becomes one, over the same bytes; a table that rows are read of stays', () => {
    const graph = network(32);
    const blocked = blockedProducts(graph)!;
    const ops = blocked.nodes.map(({ op }) => op);
    assert.equal(ops.filter((op) => op === 'Conv').length, 2);
    assert.ok(!ops.includes('Gemm'));
    const named = new Map(blocked.initializers.map(({ value, tensor }) => [value.name, tensor]));
    assert.deepEqual(named.get('table.1x1')!.dims, [5, 32, 1, 1]);
    assert.equal(named.get('table.1x1')!.data, named.get('table')!.data);
    assert.ok(!named.has('square'), 'what nothing reads any more is gone');
    assert.deepEqual(
      blocked.nodes.filter(({ op }) => op === 'Conv').map(({ inputs }) => inputs.length),
      [3, 3],
    );
    assert.deepEqual(blocked.outputs, graph.outputs);
  });

  test('rows that do not fill blocks of channels are left to the matrix product', () => {
    assert.equal(blockedProducts(network(40)), undefined);
  });
});
