import { add, clip, matMul } from '../../../onnx/ops/index.js';
import { asRow } from '../entering.js';
import type { PredictedScore } from '../parameters.js';
import { predictionBound, probeLayer } from '../probe.js';
import type { ScoreRule } from './score.js';

/** What a probe foretells: HEART's zᵀHz (arXiv 2512.20120) or |∂L/∂m|, whose own values need a label and a backward pass. */
export const predicted: ScoreRule<PredictedScore> = (g, entering, { probe }, name) => {
  const { hidden } = probeLayer(g, entering, probe, name);
  const output = g.constant([...probe.output], [probe.output.length, 1]);
  const prediction = add(g, matMul(g, hidden, output), probe.outputBias);
  return { kind: 'tokens', score: asRow(g, clip(g, prediction, -predictionBound, predictionBound)) };
};
