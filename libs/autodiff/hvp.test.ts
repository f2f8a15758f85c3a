import assert from 'node:assert/strict';
import { after, describe, it } from 'node:test';
import fc from 'fast-check';
import { GraphBuilder } from '../onnx/builder.js';
import type { Value } from '../onnx/ir.js';
import { logSoftmax, matMul, mul, reduceSum, sub, tanh } from '../onnx/ops/index.js';
import { exactSketch, gradient, hessianVector, klCurvatureVector, outputSketch } from './hvp.js';
import { centralDifference, distance, dot, draws, Evaluator, moved, type Numbers } from './testing/evaluate.js';
import { compose, randomSteps } from './testing/random-graph.js';

const evaluator = new Evaluator();
after(() => evaluator.close());

const numbers = (dims: readonly number[], values: readonly number[]): Numbers => ({ dims, values });

describe('Hessian-vector products of random graphs', () => {
  it('are symmetric and the derivative of the gradient', async () => {
    await fc.assert(
      fc.asyncProperty(randomSteps, fc.integer({ min: 1, max: 1 << 20 }), async (steps, seed) => {
        const g = new GraphBuilder('random', 'float64');
        const wrt = [g.input('x', 'float64', [2, 3]), g.input('y', 'float64', [3])];
        const u = [g.input('ux', 'float64', [2, 3]), g.input('uy', 'float64', [3])];
        const v = [g.input('vx', 'float64', [2, 3]), g.input('vy', 'float64', [3])];
        const end = compose(g, wrt[0]!, wrt[1]!, steps);
        // not linear in the end, and no two elements of it weigh the same
        const loss = mul(g, mul(g, end, end), g.constant([1, -0.7, 0.4, 0.9, 0.3, -0.5], [2, 3]));
        const { gradients, products } = hessianVector(g, loss, wrt, [u, v]);
        const named = (name: string, values: readonly Value[]) =>
          values.map((value, i) => g.named(`${name}${i}`, value));
        const evaluate = await evaluator.load(
          g.build([...named('g', gradients), ...named('hu', products[0]!), ...named('hv', products[1]!)]),
        );
        const next = draws(seed);
        const feeds = Object.fromEntries(
          [...wrt, ...u, ...v].map(({ name, shape }) => {
            const dims = shape.map(Number);
            return [name, numbers(dims, next(dims.length === 2 ? 6 : 3))];
          }),
        );
        const at = await evaluate(feeds);
        const pair = (a: string, b: string): number =>
          dot(feeds[`${a}x`]!, at[`${b}0`]!) + dot(feeds[`${a}y`]!, at[`${b}1`]!);
        const [uHv, vHu] = [pair('u', 'hv'), pair('v', 'hu')];
        assert.ok(Math.abs(uHv - vHu) <= 1e-10 * Math.max(1, Math.abs(uHv)), `uᵀHv ${uHv}, vᵀHu ${vHu}`);
        const step = 1e-5;
        const shifted = (t: number) =>
          evaluate({ ...feeds, x: moved(feeds['x']!, feeds['vx']!, t), y: moved(feeds['y']!, feeds['vy']!, t) });
        const [up, down] = [await shifted(step), await shifted(-step)];
        for (const i of [0, 1]) {
          const turn = centralDifference(up[`g${i}`]!, down[`g${i}`]!, step);
          const off = distance(at[`hv${i}`]!, turn, 1);
          assert.ok(off < 1e-6, `H v is off by ${off}`);
        }
      }),
      { numRuns: 60, seed: 20260923 },
    );
  });
});

/** Three samples, four features, five classes: logits tanh(x W₁) W₂ with a gate by feature, shared or by sample. */
function classifier(gateShape: readonly (number | string)[]) {
  const g = new GraphBuilder('classifier', 'float64');
  const next = draws(5);
  const gate = g.input('gate', 'float64', gateShape);
  const x = g.input('x', 'float64', ['B', 4]);
  const hidden = tanh(g, matMul(g, x, g.constant(next(16), [4, 4])));
  const logits = matMul(g, mul(g, hidden, gate), g.constant(next(20, -2, 2), [4, 5]));
  return { g, gate, logits };
}

const samples = numbers([3, 4], draws(6)(12));
const ones = (dims: readonly number[]): Numbers =>
  numbers(dims, Array<number>(dims.reduce((a, b) => a * b, 1)).fill(1));

describe('curvature of the Kullback-Leibler divergence', () => {
  it('JᵀFJ v is the Hessian of KL(p ‖ q) at q = p times v', async () => {
    const { g, gate, logits } = classifier([4]);
    const v = g.input('v', 'float64', [4]);
    const [[curved]] = klCurvatureVector(g, logits, [gate], [[v]]) as [[Value]];
    // KL(p ‖ q) with p from outside, so that only q moves
    const logP = g.input('logP', 'float64', ['B', 5]);
    const p = g.input('p', 'float64', ['B', 5]);
    const loss = reduceSum(g, mul(g, p, sub(g, logP, logSoftmax(g, logits))), [-1], false);
    const { gradients, products } = hessianVector(g, loss, [gate], [[v]]);
    const evaluate = await evaluator.load(
      g.build([
        g.named('kl', curved),
        g.named('h', products[0]![0]!),
        g.named('gradient', gradients[0]!),
        g.named('log', logSoftmax(g, logits)),
      ]),
    );
    const feeds = { gate: ones([4]), x: samples, v: numbers([4], [0.3, -1, 0.8, 0.5]) };
    const anything = numbers([3, 5], draws(8)(15));
    const { log } = await evaluate({ ...feeds, logP: anything, p: anything });
    const exact = await evaluate({ ...feeds, logP: log!, p: numbers([3, 5], log!.values.map(Math.exp)) });
    assert.ok(distance(exact['kl']!, exact['h']!, 0) < 1e-12);
    assert.ok(dot(exact['gradient']!, exact['gradient']!) < 1e-24, 'the gradient vanishes');
  });

  it('the exact sketch squares to the diagonal, and the random one has it as its mean', async () => {
    const { g, gate, logits } = classifier(['B', 4]);
    const units = [0, 1, 2, 3].map((i) => [
      g.constant(
        [0, 1, 2, 3].map((j) => (i === j ? 1 : 0)),
        [4],
      ),
    ]);
    const batch = g.input('ones', 'float64', ['B', 1]);
    const spread = units.map(([e]) => [mul(g, batch, e!)]);
    const columns = klCurvatureVector(g, logits, [gate], spread);
    const exact = exactSketch(g, logits, [gate]);
    const signs = Array.from({ length: 16 }, (_, k) => g.input(`r${k}`, 'float64', ['B', 5]));
    const random = outputSketch(g, logits, [gate], signs);
    const evaluate = await evaluator.load(
      g.build([
        ...columns.map(([c], i) => g.named(`column${i}`, c!)),
        ...exact.map(([c], i) => g.named(`exact${i}`, c!)),
        ...random.map(([c], i) => g.named(`random${i}`, c!)),
      ]),
    );
    // all 2⁵ sign vectors, halved by symmetry: their mean is the expectation itself
    const feeds = Object.fromEntries(
      signs.map((_, k) => {
        const row = [1, ...[0, 1, 2, 3].map((bit) => ((k >> bit) & 1 ? -1 : 1))];
        return [`r${k}`, numbers([3, 5], [...row, ...row, ...row])];
      }),
    );
    const at = await evaluate({ ...feeds, gate: ones([3, 4]), x: samples, ones: ones([3, 1]) });
    const squares = (name: string, count: number): Numbers => {
      const parts = Array.from({ length: count }, (_, k) => at[`${name}${k}`]!.values);
      return numbers(
        [3, 4],
        Array.from({ length: 12 }, (_, i) => parts.reduce((sum, part) => sum + part[i]! ** 2, 0)),
      );
    };
    const diagonal = numbers(
      [3, 4],
      Array.from({ length: 12 }, (_, i) => at[`column${i % 4}`]!.values[i]!),
    );
    assert.ok(distance(squares('exact', 5), diagonal, 0) < 1e-12);
    const mean = squares('random', 16);
    assert.ok(
      distance(
        numbers(
          [3, 4],
          mean.values.map((value) => value / 16),
        ),
        diagonal,
        0,
      ) < 1e-12,
    );
  });

  it('holds position by position for logits [B, T, classes]', async () => {
    const g = new GraphBuilder('positions', 'float64');
    const gate = g.input('gate', 'float64', ['B', 3, 1]);
    const logits = mul(g, g.input('x', 'float64', ['B', 3, 4]), gate);
    const curved = klCurvatureVector(g, logits, [gate], [[g.input('v', 'float64', ['B', 3, 1])]]);
    const columns = exactSketch(g, logits, [gate]);
    const evaluate = await evaluator.load(
      g.build([g.named('curved', curved[0]![0]!), ...columns.map(([c], i) => g.named(`c${i}`, c!))]),
    );
    const x = numbers([2, 3, 4], draws(9)(24));
    const at = await evaluate({ gate: ones([2, 3, 1]), x, v: ones([2, 3, 1]) });
    const sums = Array.from({ length: 6 }, (_, i) =>
      [0, 1, 2, 3].reduce((total, c) => total + at[`c${c}`]!.values[i]! ** 2, 0),
    );
    assert.ok(distance(numbers([2, 3, 1], sums), at['curved']!, 0) < 1e-12);
  });
});

describe('what nothing depends on', () => {
  it('has zeros of its own shape', async () => {
    const g = new GraphBuilder('apart', 'float64');
    const [x, y] = [g.input('x', 'float64', ['B', 2]), g.input('y', 'float64', ['B', 3])];
    const loss = mul(g, x, 3);
    const { products } = hessianVector(g, loss, [x, y], [[x, undefined]]);
    const outputs = [...gradient(g, loss, [x, y]), ...products[0]!];
    const evaluate = await evaluator.load(g.build(outputs.map((value, i) => g.named(`out${i}`, value))));
    const at = await evaluate({ x: ones([2, 2]), y: ones([2, 3]) });
    assert.deepEqual(at['out0'], numbers([2, 2], [3, 3, 3, 3]));
    for (const [name, dims] of [
      ['out1', [2, 3]],
      ['out2', [2, 2]],
      ['out3', [2, 3]],
    ] as const) {
      assert.deepEqual(at[name], numbers(dims, Array<number>(dims[0] * dims[1]).fill(0)));
    }
  });

  it('a direction of another shape is refused', () => {
    const g = new GraphBuilder('shapes');
    const x = g.input('x', 'float32', ['B', 2]);
    assert.throws(() => hessianVector(g, x, [x], [[g.constant([1, 2], [2])]]), /direction of x has shape \[2\]/);
    assert.throws(() => outputSketch(g, x, [x], [g.constant(1)]), /signs .* have shape/);
  });
});
