/**
 * The indices of the largest values, largest first; of equals the lower index first. One pass with a heap of `count`, so that a
 * vocabulary costs little more than reading it.
 */
export function largest(values: Float32Array, count: number): Int32Array {
  const size = Math.min(count, values.length);
  const heap = new Int32Array(size);
  if (size === 0) return heap;
  // The root is the worst of those kept.
  const worse = (a: number, b: number): boolean => values[a]! < values[b]! || (values[a] === values[b] && a > b);
  const sink = (from: number, length: number): void => {
    const moved = heap[from]!;
    let at = from;
    for (let child = 2 * at + 1; child < length; child = 2 * at + 1) {
      if (child + 1 < length && worse(heap[child + 1]!, heap[child]!)) child++;
      if (!worse(heap[child]!, moved)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = moved;
  };
  for (let i = 0; i < size; i++) heap[i] = i;
  for (let at = (size >> 1) - 1; at >= 0; at--) sink(at, size);
  let least = values[heap[0]!]!;
  for (let i = size; i < values.length; i++) {
    // An equal one that comes later is worse than any that is there.
    if (values[i]! <= least) continue;
    heap[0] = i;
    sink(0, size);
    least = values[heap[0]]!;
  }
  // The worst goes to the end of what is left.
  for (let length = size - 1; length > 0; length--) {
    const worst = heap[0]!;
    heap[0] = heap[length]!;
    sink(0, length);
    heap[length] = worst;
  }
  return heap;
}

/** The index of the largest value, the lowest of equals; −1 where none is a number above −∞. Eight at a time, which takes half as long as one by one. */
export function argmax(values: Float32Array): number {
  let best = -1;
  let most = -Infinity;
  const end = values.length;
  for (let i = 0; i < end; i += 8) {
    const some =
      i + 8 > end ||
      values[i]! > most ||
      values[i + 1]! > most ||
      values[i + 2]! > most ||
      values[i + 3]! > most ||
      values[i + 4]! > most ||
      values[i + 5]! > most ||
      values[i + 6]! > most ||
      values[i + 7]! > most;
    if (!some) continue;
    for (let at = i; at < i + 8 && at < end; at++) {
      const value = values[at]!;
      if (value > most) {
        most = value;
        best = at;
      }
    }
  }
  return best;
}
