import fc from 'fast-check';
import type { GraphBuilder } from '../../onnx/builder.js';
import type { Value } from '../../onnx/ir.js';
import * as o from '../../onnx/ops/index.js';

/** Smooth functions of one or two [2, 3] values with values of order one, so that differences of them are exact enough. */
const steps = {
  tanh: (g, a) => o.tanh(g, a),
  bell: (g, a) => o.exp(g, o.neg(g, o.mul(g, a, a))),
  root: (g, a) => o.sqrt(g, o.add(g, 1, o.mul(g, a, a))),
  logarithm: (g, a) => o.log(g, o.add(g, 1.5, o.mul(g, a, a))),
  add: (g, a, b) => o.add(g, a, b),
  subtract: (g, a, b) => o.sub(g, a, b),
  multiply: (g, a, b) => o.mul(g, o.tanh(g, a), b),
  divide: (g, a, b) => o.div(g, a, o.add(g, 1, o.mul(g, b, b))),
  reciprocal: (g, a) => o.reciprocal(g, o.add(g, 2, o.tanh(g, a))),
  softmax: (g, a) => o.softmax(g, a),
  softmaxDown: (g, a) => o.softmax(g, a, 0),
  logSoftmax: (g, a) => o.mul(g, o.logSoftmax(g, a), 0.5),
  standardise: (g, a) => {
    const centred = o.sub(g, a, o.reduceMean(g, a, [-1]));
    const variance = o.reduceMean(g, o.mul(g, centred, centred), [-1]);
    return o.div(g, centred, o.sqrt(g, o.add(g, variance, 0.5)));
  },
  attend: (g, a, b) => o.matMul(g, o.softmax(g, o.matMul(g, a, o.transposeLast(g, b))), b),
  linear: (g, a) => o.gemm(g, a, weights(g), undefined, { transB: true }),
  bilinear: (g, a, b) => o.matMul(g, a, o.mul(g, o.reduceSum(g, o.tanh(g, b), [0]), weights(g))),
  fold: (g, a) => o.reshape(g, o.transposeLast(g, o.reshape(g, a, [3, 2])), [2, 3]),
  swap: (g, a, b) => o.concat(g, [o.slice(g, a, 1, 1, 3), o.slice(g, b, 1, 0, 1)], 1),
  shift: (g, a) => o.padZeros(g, o.slice(g, a, 1, 1, 3), 1, 1, 0),
  rows: (g, a) => o.gather(g, a, g.integers([1, 1])),
} satisfies Record<string, (g: GraphBuilder, a: Value, b: Value) => Value>;

function weights(g: GraphBuilder): Value {
  return g.constant([0.5, -0.3, 0.8, -0.6, 0.2, 0.4, 0.1, -0.7, 0.3], [3, 3]);
}

export interface RandomStep {
  readonly step: keyof typeof steps;
  readonly first: number;
  readonly second: number;
}

/** Compositions of the steps; each takes its operands from all that was made before it. */
export const randomSteps = fc.array(
  fc.record({
    step: fc.constantFrom(...(Object.keys(steps) as (keyof typeof steps)[])),
    first: fc.nat(20),
    second: fc.nat(20),
  }),
  { minLength: 1, maxLength: 8 },
);

/** The value that a composition ends in, [2, 3]; x is [2, 3], y [3] is broadcast. */
export function compose(g: GraphBuilder, x: Value, y: Value, composition: readonly RandomStep[]): Value {
  const made = [x, o.add(g, x, y)];
  for (const { step, first, second } of composition) {
    const pick = (at: number): Value => made[made.length - 1 - (at % made.length)]!;
    made.push(steps[step](g, pick(first), pick(second)));
  }
  return made.at(-1)!;
}
