import { padTokens } from '../../models/tokens.js';
import type { GraphBuilder } from '../../onnx/builder.js';
import type { Value } from '../../onnx/ir.js';
import { add, gelu, layerNormalization, matMul, max, min, mul, slice, transposeLast } from '../../onnx/ops/index.js';
import { invalid } from '../../errors/error.js';
import { average, flat, patchShares, project, type Entering } from './entering.js';
import type { Probe } from './parameters.js';

/** Added to the variance before its root. */
export const probeEpsilon = 1e-6;
/** A prediction stays within ± this, so that its exponential is finite. */
export const predictionBound = 60;

/**
 * The probe's prediction of every token, [batch, longest], and the projections of x by further matrices [D, k] that ride along in
 * the same product, [batch, longest, k].
 *
 * With the mean of each column of A taken out, z·A = r · (x·A) where r = 1/√(var x + ε): the layer norm needs no pass of its own
 * over what is projected.
 */
export function predict(
  g: GraphBuilder,
  entering: Entering,
  probe: Probe,
  name: string,
  riders: readonly Float32Array[] = [],
): { prediction: Value; projections: Value[] } {
  const { seam, width } = entering;
  const hidden = probe.bias.length;
  checkProbe(probe, width, name);
  const parts = [probe.token, probe.classToken, probe.meanToken].map((matrix) => centred(matrix, width, hidden));
  const [token, classToken, meanToken, ...projections] = project(g, entering, `${name}_projection`, [
    ...parts,
    ...riders,
  ]);
  const { inverseDeviation } = layerNormalization(
    g,
    seam.tokens.rows,
    g.constant(Array<number>(width).fill(1), [width]),
    g.constant(Array<number>(width).fill(0), [width]),
    probeEpsilon,
  );
  const r = padTokens(g, seam.tokens.layout, inverseDeviation);
  // z_class·B and z_mean·C: [batch, 1, hidden] each.
  const ofClass = mul(g, slice(g, classToken!, 1, 0, 1, 1), slice(g, r, 1, 0, 1, 1));
  const ofMean = average(g, mul(g, patchShares(g, entering, 'mass'), transposeLast(g, r)), meanToken!);
  const ofImage = add(g, add(g, ofClass, ofMean), g.constant([...probe.bias], [hidden]));
  const u = gelu(g, add(g, mul(g, token!, r), ofImage));
  const raw = add(g, matMul(g, u, g.constant([...probe.output], [hidden, 1])), probe.outputBias);
  const prediction = max(g, min(g, flat(g, raw), predictionBound), -predictionBound);
  return { prediction, projections };
}

/** A − 1 (1ᵀA) / D: what takes the mean out of x before the product. */
function centred(matrix: Float32Array, rows: number, columns: number): Float32Array {
  const out = Float32Array.from(matrix);
  for (let c = 0; c < columns; c++) {
    let sum = 0;
    for (let d = 0; d < rows; d++) sum += matrix[d * columns + c]!;
    for (let d = 0; d < rows; d++) out[d * columns + c]! -= sum / rows;
  }
  return out;
}

function checkProbe(probe: Probe, width: number, name: string): void {
  const hidden = probe.bias.length;
  const expected = { token: width * hidden, classToken: width * hidden, meanToken: width * hidden, output: hidden };
  for (const [field, length] of Object.entries(expected)) {
    const found = probe[field as keyof typeof expected].length;
    if (found !== length) throw invalid(`${name}: the probe's ${field} has ${found} numbers, expected ${length}`);
  }
}
