/** From logits to classes. */

/** Indices of the `k` greatest values, the greatest first; of equals the lower index first. */
export function greatest(values: ArrayLike<number>, k: number): number[] {
  const indices = Array.from({ length: values.length }, (_, index) => index);
  indices.sort((a, b) => values[b]! - values[a]! || a - b);
  return indices.slice(0, k);
}
