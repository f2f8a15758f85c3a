import assert from 'node:assert/strict';
import { after, describe, it } from 'node:test';
import { GraphBuilder } from '../../onnx/builder.js';
import { encodeModel } from '../../onnx/write.js';
import { mul, reduceSum } from '../../onnx/ops/index.js';
import { differentiableOps } from '../operators.js';
import { gradient, hessianVector } from '../hvp.js';
import { pullback } from '../pullback.js';
import { pushforward } from '../pushforward.js';
import {
  boundDims,
  centralDifference,
  countOf,
  distance,
  dot,
  draws,
  Evaluator,
  moved,
  type Numbers,
} from '../testing/evaluate.js';
import { ruleCases, type RuleCase } from '../testing/rule-cases.js';

/**
 * Every rule against central differences at a random point, along random directions. The second order is that of ½ Σ w y², whose
 * cotangent w y moves with the point, so that a rule's derivative by the cotangent counts too.
 */
const evaluator = new Evaluator();
after(() => evaluator.close());

const symbols = { B: 2, rows: 4 };
const tolerances = {
  float64: { step: 1e-5, first: 1e-8, second: 1e-7 },
  float32: { step: 5e-3, first: 1e-3, second: 4e-3 },
} as const;

function graphOf(test: RuleCase): {
  graph: ReturnType<GraphBuilder['build']>;
  points: string[];
  operators: Set<string>;
} {
  const float = test.float ?? 'float64';
  const g = new GraphBuilder('rule', float);
  const inputs = test.shapes.map((shape, i) => g.input(`x${i}`, float, shape));
  const directions = test.shapes.map((shape, i) => g.input(`v${i}`, float, shape));
  const y = test.build(g, ...inputs);
  const operators = new Set(g.allNodes.map((node) => node.op));
  const w = g.input('w', float, y.shape);
  const [tangent] = pushforward(g, new Map(inputs.map((x, i) => [x, directions[i]!])), [y]);
  assert.ok(tangent, 'the output depends on its inputs');
  assert.deepEqual(tangent.shape, y.shape, 'the tangent has the shape of the output');
  const back = gradient(g, mul(g, y, w), inputs);
  const direct = pullback(g, [y], [w], inputs);
  const loss = mul(g, reduceSum(g, mul(g, w, mul(g, y, y)), [...y.shape.keys()], false), 0.5);
  const second = hessianVector(g, loss, inputs, [directions]);
  const outputs = [
    g.named('y', y),
    g.named('tangent', tangent),
    ...inputs.flatMap((x, i) => {
      assert.deepEqual(direct[i]?.shape ?? x.shape, x.shape, 'a cotangent has the shape of its input');
      return [
        g.named(`back${i}`, back[i]!),
        g.named(`gradient${i}`, second.gradients[i]!),
        g.named(`product${i}`, second.products[0]![i]!),
      ];
    }),
  ];
  return { graph: g.build(outputs), points: inputs.map((x) => x.name), operators };
}

function feedsOf(test: RuleCase, graph: ReturnType<GraphBuilder['build']>, seed: number): Record<string, Numbers> {
  const next = draws(seed);
  const [low, high] = test.interval ?? [-1, 1];
  return Object.fromEntries(
    graph.inputs.map((v) => {
      const dims = boundDims(v, symbols);
      const inside = v.name.startsWith('x');
      return [v.name, { dims, values: inside ? next(countOf(dims), low, high) : next(countOf(dims)) }];
    }),
  );
}

for (const op of differentiableOps) {
  describe(`${op}`, () => {
    ruleCases[op].forEach((test, index) => {
      it(test.what, async () => {
        const { graph, points, operators } = graphOf(test);
        assert.ok(operators.has(op), `the case builds no ${op}`);
        const evaluate = await evaluator.load(graph);
        const { step, first, second } = tolerances[test.float ?? 'float64'];
        for (const seed of [index + 1, index + 101]) {
          const at = feedsOf(test, graph, seed);
          const shifted = (t: number) => ({
            ...at,
            ...Object.fromEntries(points.map((name, i) => [name, moved(at[name]!, at[`v${i}`]!, t)])),
          });
          const [here, up, down] = [await evaluate(at), await evaluate(shifted(step)), await evaluate(shifted(-step))];
          // pushforward: J v
          const slope = centralDifference(up['y']!, down['y']!, step);
          assert.ok(distance(here['tangent']!, slope) < first, `J v is off by ${distance(here['tangent']!, slope)}`);
          // pullback: <w, J v> = <Jᵀ w, v>, and both are the slope of <w, y>
          const dual = points.reduce((total, _, i) => total + dot(here[`back${i}`]!, at[`v${i}`]!), 0);
          const primal = dot(at['w']!, slope);
          assert.ok(
            Math.abs(dual - primal) < first * Math.max(1, Math.abs(primal)),
            `<Jᵀw, v> is ${dual}, not ${primal}`,
          );
          // second order: H v, by each input
          points.forEach((name, i) => {
            const turn = centralDifference(up[`gradient${i}`]!, down[`gradient${i}`]!, step);
            const off = distance(here[`product${i}`]!, turn, 0.1);
            assert.ok(off < second, `H v by ${name} is off by ${off}`);
          });
        }
      });
    });
  });
}

it('an operator without rules is refused by name', () => {
  const g = new GraphBuilder('refused');
  const x = g.input('x', 'float32', [3]);
  const y = g.emitOne({ op: 'Sigmoid', inputs: [x], output: x });
  assert.throws(() => gradient(g, y, [x]), /no derivative of Sigmoid/);
  assert.throws(() => pushforward(g, new Map([[x, x]]), [y]), /no derivative of Sigmoid/);
  assert.doesNotThrow(() => encodeModel(g.build([y])));
});
