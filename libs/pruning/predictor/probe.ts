import { erf } from '../statistics/normal.js';
import type { Probe } from '../stages/parameters.js';
import { probeEpsilon } from '../stages/probe.js';

/** LN without affine parameters, row by row: (x − mean) / √(var + ε). x [n, D]. */
export function normaliseRows(x: Float32Array, D: number): Float32Array {
  const z = new Float32Array(x.length);
  for (let row = 0; row < x.length; row += D) {
    let sum = 0;
    for (let k = row; k < row + D; k++) sum += x[k]!;
    const centre = sum / D;
    let squares = 0;
    for (let k = row; k < row + D; k++) squares += (x[k]! - centre) ** 2;
    const factor = 1 / Math.sqrt(squares / D + probeEpsilon);
    for (let k = row; k < row + D; k++) z[k] = (x[k]! - centre) * factor;
  }
  return z;
}

/**
 * The probe applied, in TypeScript: the reference of what the graph does,
 *
 *   u = gelu(z A + (z_class B + z_mean C) + b1);  prediction = u · w2 + b2
 *
 * @param z [n, D]
 * @param cls class token of each image, [images, D]
 * @param mean mean of z over the patch tokens of each image, [images, D]
 * @param image the image of each row, [n]
 * @returns predictions, [n]
 */
export function applyProbe(
  probe: Probe,
  z: Float32Array,
  cls: Float32Array,
  mean: Float32Array,
  image: ArrayLike<number>,
): Float64Array {
  const h = probe.output.length;
  const D = probe.token.length / h;
  const images = cls.length / D;
  const shared = new Float64Array(images * h);
  for (let at = 0; at < images; at++) {
    for (let j = 0; j < h; j++) shared[at * h + j] = probe.bias[j]!;
    accumulate(shared, at * h, cls, at * D, probe.classToken, D, h);
    accumulate(shared, at * h, mean, at * D, probe.meanToken, D, h);
  }
  const hidden = new Float64Array(h);
  return Float64Array.from({ length: image.length }, (_, row) => {
    hidden.set(shared.subarray(image[row]! * h, (image[row]! + 1) * h));
    accumulate(hidden, 0, z, row * D, probe.token, D, h);
    let prediction = probe.outputBias;
    for (let j = 0; j < h; j++) prediction += gelu(hidden[j]!) * probe.output[j]!;
    return prediction;
  });
}

/** out += row · matrix, matrix [D, h]. */
function accumulate(
  out: Float64Array,
  at: number,
  rows: Float32Array,
  from: number,
  matrix: Float32Array,
  D: number,
  h: number,
): void {
  for (let k = 0; k < D; k++) {
    const value = rows[from + k]!;
    for (let j = 0; j < h; j++) out[at + j] = out[at + j]! + value * matrix[k * h + j]!;
  }
}

/** x Φ(x). */
const gelu = (x: number): number => 0.5 * x * (1 + erf(x * Math.SQRT1_2));
