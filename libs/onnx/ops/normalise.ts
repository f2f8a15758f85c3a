import { internal } from '../../errors/error.js';
import type { GraphBuilder } from '../builder.js';
import type { Value } from '../ir.js';
import { axisOf } from '../shapes.js';

function alongAxis(g: GraphBuilder, op: 'Softmax' | 'LogSoftmax', x: Value, axis: number): Value {
  return g.emitOne({
    op,
    inputs: [x],
    attributes: { axis: { kind: 'int', value: axisOf(axis, x.shape.length) } },
    output: { type: x.type, shape: x.shape },
  });
}

/** exp(x) / Σ exp(x) along one axis, the last by default. */
export const softmax = (g: GraphBuilder, x: Value, axis = -1): Value => alongAxis(g, 'Softmax', x, axis);
/** x − log Σ exp(x) along one axis, the last by default. */
export const logSoftmax = (g: GraphBuilder, x: Value, axis = -1): Value => alongAxis(g, 'LogSoftmax', x, axis);

/** γ (x − mean) / √(var + ε) + β over the last axis. x [..., D]; γ, β [D]. Gives y and 1/√(var + ε) [..., 1]. */
export function layerNormalization(
  g: GraphBuilder,
  x: Value,
  gamma: Value,
  beta: Value,
  epsilon: number,
): { y: Value; mean: Value; inverseDeviation: Value } {
  const row = [...x.shape.slice(0, -1), 1];
  const [y, mean, inverseDeviation] = g.emit({
    op: 'LayerNormalization',
    inputs: [x, gamma, beta],
    attributes: { axis: { kind: 'int', value: -1 }, epsilon: { kind: 'float', value: epsilon } },
    outputs: [
      { type: x.type, shape: x.shape },
      { type: x.type, shape: row },
      { type: x.type, shape: row },
    ],
  });
  if (!y || !mean || !inverseDeviation) throw internal('LayerNormalization has three outputs');
  return { y, mean, inverseDeviation };
}
