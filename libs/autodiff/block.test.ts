import assert from 'node:assert/strict';
import { after, describe, it } from 'node:test';
import { GraphBuilder } from '../onnx/builder.js';
import type { Value } from '../onnx/ir.js';
import * as o from '../onnx/ops/index.js';
import { hessianVector } from './hvp.js';
import { boundDims, centralDifference, countOf, distance, dot, draws, Evaluator, moved } from './testing/evaluate.js';

/** A whole transformer block: pre-norm attention with gates on heads and keys, and a gelu MLP with gates on neurons. */
const [tokens, width, heads, neurons, classes] = [4, 6, 2, 5, 3];
const evaluator = new Evaluator();
after(() => evaluator.close());

interface Block {
  readonly g: GraphBuilder;
  readonly wrt: readonly Value[];
  readonly loss: Value;
}

function block(): Block {
  const g = new GraphBuilder('block', 'float32');
  const next = draws(3);
  const matrix = (rows: number, columns: number): Value => g.constant(next(rows * columns), [rows, columns]);
  const vector = (count: number, low: number, high: number): Value => g.constant(next(count, low, high), [count]);
  const gate = (name: string, shape: Value['shape']): Value => g.input(name, 'float32', shape);
  const [token, mask] = [gate('token', ['B', tokens, 1]), gate('mask', ['B', 1, 1, tokens])];
  const [head, neuron] = [gate('head', [heads, 1, 1]), gate('neuron', [neurons])];
  const up = gate('up', [neurons, width]);

  const norm = (x: Value): Value => o.layerNormalization(g, x, vector(width, 0.5, 1.5), vector(width, -1, 1), 1e-5).y;
  const linear = (x: Value, w: Value, outputs: number): Value =>
    o.gemm(g, x, w, vector(outputs, -1, 1), { transB: true });
  const rows = (x: Value): Value => o.reshape(g, x, ['rows', Number(x.shape.at(-1))]);
  const split = (x: Value): Value => o.transpose(g, o.reshape(g, x, ['B', tokens, heads, width / heads]), [0, 2, 1, 3]);

  const x = o.mul(g, g.input('x', 'float32', ['B', tokens, width]), token);
  const z = rows(norm(x));
  const [q, k, v] = [0, 1, 2].map(() => split(linear(z, matrix(width, width), width))) as [Value, Value, Value];
  const scores = o.mul(g, o.matMul(g, q, o.transposeLast(g, k)), 1 / Math.sqrt(width / heads));
  const attention = o.softmax(g, o.add(g, scores, o.log(g, mask)));
  const context = o.transpose(g, o.mul(g, o.matMul(g, attention, v), head), [0, 2, 1, 3]);
  const attended = linear(rows(o.reshape(g, context, ['B', tokens, width])), matrix(width, width), width);
  const y = o.add(g, x, o.reshape(g, attended, ['B', tokens, width]));
  const hidden = o.mul(g, o.gelu(g, linear(rows(norm(y)), up, neurons)), neuron);
  const out = o.add(g, y, o.reshape(g, linear(hidden, matrix(width, neurons), width), ['B', tokens, width]));
  const first = o.squeeze(g, o.slice(g, out, 1, 0, 1), [1]);
  const logits = linear(first, matrix(classes, width), classes);
  const loss = o.reduceSum(g, o.mul(g, o.logSoftmax(g, logits), g.constant([-1, 0, 0], [3])), [-1], false);
  return { g, wrt: [token, mask, head, neuron, up], loss };
}

describe('a transformer block', () => {
  for (const optimization of ['disabled', 'all'] as const) {
    it(`gradient and Hv match differences, optimisation ${optimization}`, async () => {
      const { g, wrt, loss } = block();
      const [u, v] = ['u', 'v'].map((probe) => wrt.map((w) => g.input(`${probe}.${w.name}`, 'float32', w.shape)));
      const { gradients, products } = hessianVector(g, loss, wrt, [u!, v!]);
      const evaluate = await evaluator.load(
        g.build([
          g.named('loss', loss),
          ...gradients.map((value, i) => g.named(`g${i}`, value)),
          ...products[0]!.map((value, i) => g.named(`hu${i}`, value)),
          ...products[1]!.map((value, i) => g.named(`hv${i}`, value)),
        ]),
        optimization,
      );
      const next = draws(4);
      const feeds = Object.fromEntries(
        [...wrt, ...u!, ...v!].map((value) => {
          const dims = boundDims(value, { B: 2 });
          // gates near one, not at it: nothing may hold at that point only
          return [
            value.name,
            { dims, values: value.name.includes('.') ? next(countOf(dims)) : next(countOf(dims), 0.7, 1.3) },
          ];
        }),
      );
      feeds['up']!.values.forEach((_, i, all) => (all[i]! -= 1));
      feeds['x'] = { dims: [2, tokens, width], values: next(2 * tokens * width, -2, 2) };
      const at = await evaluate(feeds);
      const step = 4e-3;
      const shifted = (t: number) =>
        evaluate({
          ...feeds,
          ...Object.fromEntries(wrt.map((w) => [w.name, moved(feeds[w.name]!, feeds[`v.${w.name}`]!, t)])),
        });
      const [above, below] = [await shifted(step), await shifted(-step)];

      const slope =
        (above['loss']!.values.reduce((a, b) => a + b) - below['loss']!.values.reduce((a, b) => a + b)) / (2 * step);
      const rate = wrt.reduce((total, w, i) => total + dot(at[`g${i}`]!, feeds[`v.${w.name}`]!), 0);
      assert.ok(
        Math.abs(rate - slope) < 2e-3 * Math.max(1, Math.abs(slope)),
        `the slope is ${slope}, by the gradient ${rate}`,
      );
      wrt.forEach((w, i) => {
        const off = distance(at[`hv${i}`]!, centralDifference(above[`g${i}`]!, below[`g${i}`]!, step));
        assert.ok(off < 5e-3, `H v by ${w.name} is off by ${off}`);
      });
      const [uHv, vHu] = (
        [
          ['u', 'hv'],
          ['v', 'hu'],
        ] as const
      ).map(([probe, product]) =>
        wrt.reduce((total, w, i) => total + dot(feeds[`${probe}.${w.name}`]!, at[`${product}${i}`]!), 0),
      ) as [number, number];
      assert.ok(Math.abs(uHv - vHu) < 1e-4 * Math.max(1, Math.abs(uHv)), `uᵀHv ${uHv}, vᵀHu ${vHu}`);
    });
  }
});
