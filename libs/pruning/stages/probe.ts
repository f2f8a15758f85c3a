import type { GraphBuilder } from '../../onnx/builder.js';
import type { Value } from '../../onnx/ir.js';
import { add, biasGelu, concat, layerNormalization, matMul, slice, split } from '../../onnx/ops/index.js';
import { invalid } from '../../errors/error.js';
import { floatTensor } from '../../onnx/tensor.js';
import { average, padded, patchShares, sideBySide, type Entering } from './entering.js';
import type { Probe } from './parameters.js';

/** Added to the variance before its root. */
export const probeEpsilon = 1e-6;
/** A prediction stays within ± this, so that its exponential is finite. */
export const predictionBound = 60;

/** What a probe computes before its last layer. */
export interface ProbeLayer {
  /** gelu(z·A + z_class·B + z_mean·C + b1): [batch, longest, hidden]. */
  readonly hidden: Value;
  /** x·V for a further matrix V [D, k], [batch, longest, k], if one was given: it is padded together with the probe's. */
  readonly rider: Value | undefined;
}

/** The first layer of a probe over all tokens; where there is no token, that of some other one. */
export function probeLayer(
  g: GraphBuilder,
  entering: Entering,
  probe: Probe,
  name: string,
  rider?: Float32Array,
): ProbeLayer {
  const { seam, width } = entering;
  const hidden = probe.bias.length;
  checkProbe(probe, width, name);
  const { rows } = seam.tokens;
  const matrix = (part: string, values: Float32Array) =>
    g.initializer(`${name}_${part}`, floatTensor(g.float, [width, values.length / width], values));
  const ones = g.constant(Array<number>(width).fill(1), [width]);
  const zeros = g.constant(Array<number>(width).fill(0), [width]);
  const z = layerNormalization(g, rows, ones, zeros, probeEpsilon).y;
  const joined = sideBySide([probe.token, probe.classToken, probe.meanToken], width);
  const projected = [matMul(g, z, matrix('projection', joined))];
  if (rider) projected.push(matMul(g, rows, matrix('rider', rider)));
  const sizes = [hidden, hidden, hidden, ...(rider ? [rider.length / width] : [])];
  const [token, classToken, meanToken, ridden] = split(g, padded(g, entering, concat(g, projected, 1)), 2, sizes);
  const ofMean = average(g, patchShares(g, entering, 'mass'), meanToken!);
  const ofImage = add(g, slice(g, classToken!, 1, 0, 1, 1), ofMean);
  return { hidden: biasGelu(g, add(g, token!, ofImage), g.constant([...probe.bias], [hidden])), rider: ridden };
}

function checkProbe(probe: Probe, width: number, name: string): void {
  const hidden = probe.bias.length;
  const expected = { token: width * hidden, classToken: width * hidden, meanToken: width * hidden, output: hidden };
  for (const [field, length] of Object.entries(expected)) {
    const found = probe[field as keyof typeof expected].length;
    if (found !== length) throw invalid(`${name}: the probe's ${field} has ${found} numbers, expected ${length}`);
  }
}
