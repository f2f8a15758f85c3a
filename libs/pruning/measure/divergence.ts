/** Measures on logits: rows of `classes` numbers; everything is summed in double precision. */

/** log softmax of one row of [rows, classes]. */
export function logSoftmax(logits: Float32Array, row: number, classes: number): Float64Array {
  return logProbabilities(logits.subarray(row * classes, (row + 1) * classes));
}

/** softmax(z)_i = exp(z_i − max − log Σ exp(z_j − max)) */
export function softmax(logits: ArrayLike<number>): Float64Array {
  return logProbabilities(logits).map((value) => Math.exp(value));
}

/** z − max − log Σ exp(z − max) */
function logProbabilities(z: ArrayLike<number>): Float64Array {
  let max = -Infinity;
  for (let i = 0; i < z.length; i++) if (z[i]! > max) max = z[i]!;
  let sum = 0;
  for (let i = 0; i < z.length; i++) sum += Math.exp(z[i]! - max);
  const shift = max + Math.log(sum);
  return Float64Array.from(z, (value) => value - shift);
}

/** KL(p ‖ q) = Σ p (log p − log q), in nats, of two rows of log probabilities. */
export function klDivergence(logP: Float64Array, logQ: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < logP.length; i++) sum += Math.exp(logP[i]!) * (logP[i]! - logQ[i]!);
  return sum;
}

/** The index of the largest number; the first of equals. */
export function argmax(values: ArrayLike<number>): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i]! > values[best]!) best = i;
  return best;
}

/** log Σ exp z */
export function logSumExp(z: Float32Array): number {
  let most = -Infinity;
  for (let i = 0; i < z.length; i++) if (z[i]! > most) most = z[i]!;
  let sum = 0;
  for (let i = 0; i < z.length; i++) sum += Math.exp(z[i]! - most);
  return most + Math.log(sum);
}

/**
 * KL(p ‖ q) of two rows of logits, in nats, without arrays beside them: rows of a language model are long, and many.
 * @param levels `logSumExp` of each, where it is known already
 */
export function logitDivergence(
  p: Float32Array,
  q: Float32Array,
  { levelP = logSumExp(p), levelQ = logSumExp(q) }: { readonly levelP?: number; readonly levelQ?: number } = {},
): number {
  let sum = 0;
  for (let i = 0; i < p.length; i++) {
    const logP = p[i]! - levelP;
    sum += Math.exp(logP) * (logP - (q[i]! - levelQ));
  }
  return sum;
}
