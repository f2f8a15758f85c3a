/** From logits to classes. */

/** Indices of the `k` greatest values, the greatest first; of equals the lower index first. */
export function greatest(values: ArrayLike<number>, k: number): number[] {
  const indices = Array.from({ length: values.length }, (_, index) => index);
  indices.sort((a, b) => values[b]! - values[a]! || a - b);
  return indices.slice(0, k);
}

/** softmax(z)_i = exp(z_i − max z) / Σ_j exp(z_j − max z) */
export function softmax(logits: ArrayLike<number>): Float64Array {
  const values = Float64Array.from(logits);
  const top = values.reduce((a, b) => Math.max(a, b), -Infinity);
  const powers = values.map((z) => Math.exp(z - top));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}
