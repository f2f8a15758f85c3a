/** The graphs that bench/curvature.ts times: derivatives of a whole classifier by the gates of all of its blocks. */
import { gradient, hessianVector, klCurvatureVector, outputSketch } from '../libs/autodiff/hvp.js';
import type { Checkpoint } from '../libs/models/checkpoint.js';
import { buildClassifier } from '../libs/models/classifier.js';
import type { GateKind } from '../libs/models/gates.js';
import type { Graph, Value } from '../libs/onnx/ir.js';
import { logSoftmax, mul, neg, reduceSum } from '../libs/onnx/ops/index.js';

export interface WorkSpec {
  /** What is computed besides the forward part: nothing, the gradient, H v, JᵀFJ v, or JᵀR r. */
  readonly kind: 'forward' | 'gradient' | 'Hv' | 'KL-curvature' | 'output sketch';
  readonly probes: number;
}

export const titleOf = ({ kind, probes }: WorkSpec): string => (probes === 0 ? kind : `${kind} × ${probes}`);

/**
 * A graph with inputs `pixel_values`, the gates by their kind, and `probe:k`, each probe of the shape of the gates (of the logits for the
 * sketch). The loss of gradient and H v is the cross-entropy of one class summed over the samples.
 */
export function workGraph(checkpoint: Checkpoint, batch: number, gates: GateKind, { kind, probes }: WorkSpec): Graph {
  const { g, gates: inputs, logits } = buildClassifier(checkpoint, { lowering: 'canonical', batch, gates: [gates] });
  const gate = inputs.get(gates)!.value;
  const like = kind === 'output sketch' ? logits : gate;
  const probe = Array.from({ length: probes }, (_, k) => g.input(`probe:${k}`, 'float32', like.shape));
  const directions = probe.map((v) => [v]);
  const outputs = (): readonly Value[] => {
    const classes = Number(logits.shape[1]);
    const label = g.constant(
      Array.from({ length: classes }, (_, c) => (c === 7 ? 1 : 0)),
      [classes],
    );
    const loss = neg(g, reduceSum(g, mul(g, logSoftmax(g, logits), label), [-1]));
    switch (kind) {
      case 'forward':
        return [loss];
      case 'gradient':
        return gradient(g, loss, [gate]);
      case 'Hv': {
        const { gradients, products } = hessianVector(g, loss, [gate], directions);
        return [...gradients, ...products.flat()];
      }
      case 'KL-curvature':
        return klCurvatureVector(g, logits, [gate], directions).flat();
      case 'output sketch':
        return outputSketch(g, logits, [gate], probe).flat();
    }
  };
  return g.build(outputs().map((value, i) => g.named(`output:${i}`, value)));
}
