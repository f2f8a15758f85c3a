import { normaliseRows } from '../predictor/probe.js';

/**
 * What a stage's predictor sees of the tokens of one sequence before its last normalisation, [z; m] of `PromptProbe`, row by row.
 * @param x residual vectors as they enter the block, [tokens, D]
 * @param chunk tokens of one run: the mean begins anew with every chunk
 * @returns [tokens, 2D]
 */
export function promptFeatures(x: Float32Array, D: number, chunk: number): Float32Array {
  const z = normaliseRows(x, D);
  const tokens = x.length / D;
  const features = new Float32Array(2 * x.length);
  const sum = new Float64Array(D);
  for (let token = 0; token < tokens; token++) {
    const place = token % chunk;
    if (place === 0) sum.fill(0);
    for (let k = 0; k < D; k++) {
      const value = z[token * D + k]!;
      sum[k]! += value;
      features[token * 2 * D + k] = value;
      features[token * 2 * D + D + k] = sum[k]! / (place + 1);
    }
  }
  return features;
}
