import { invalid } from '../../../libs/errors/error.js';
import type { TensorValue } from '../../../libs/runtime/tensor.js';

/**
 * The `count` greatest of an output, of each sample its own: BYTES [B, min(count, classes)] (without B for a scalar), each
 * "score:index" or "score:index:label", greatest first, equal ones by their index, NaN last.
 * Throws INVALID_ARGUMENT for an output that has no numbers.
 */
export function classify(
  name: string,
  { type, dims, data }: TensorValue,
  count: number,
  labels: readonly string[],
): TensorValue {
  if (Array.isArray(data)) throw invalid(`output ${name}: parameter classification: expected numbers, it has text`);
  const batch = dims[0] ?? 1;
  const classes = dims.slice(1).reduce((product, dim) => product * dim, 1);
  const fractions = type === 'float32' || type === 'float64';
  const texts: string[] = [];
  for (let sample = 0; sample < batch; sample++) {
    const scores = data.subarray(sample * classes, (sample + 1) * classes);
    for (const index of greatest(scores, count)) {
      const score = scores[index]!;
      const label = labels[index];
      texts.push(
        `${fractions ? sixDecimals(Number(score)) : String(score)}:${index}${label === undefined ? '' : `:${label}`}`,
      );
    }
  }
  const most = Math.min(count, classes);
  return { type: 'string', dims: dims.length === 0 ? [most] : [batch, most], data: texts };
}

function greatest(scores: ArrayLike<number | bigint>, count: number): number[] {
  const order = Array.from(scores, (_, index) => index);
  const isNaNAt = (index: number) => Number(Number.isNaN(scores[index]));
  order.sort((a, b) => {
    const [x, y] = [scores[a]!, scores[b]!];
    return x > y ? -1 : x < y ? 1 : isNaNAt(a) - isNaNAt(b) || a - b;
  });
  return order.slice(0, count);
}

/** As C's "%f" writes it, which clients parse and compare: six decimals, ties to even. */
export function sixDecimals(value: number): string {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? 'nan' : value > 0 ? 'inf' : '-inf';
  const sign = value < 0 || Object.is(value, -0) ? '-' : '';
  const magnitude = Math.abs(value);
  if (magnitude >= 2 ** 53) return `${sign}${BigInt(magnitude)}.000000`;
  // A tie is an odd multiple of ½·10⁻⁶ = 5⁻⁶/128, of which only whole multiples of 1/128 are doubles. There toFixed rounds up.
  const of128 = magnitude * 128;
  if (Number.isInteger(of128) && of128 % 2 === 1) {
    const half = BigInt(of128) * 15625n;
    const down = half / 2n;
    const even = down % 2n === 0n ? down : down + 1n;
    return `${sign}${even / 1_000_000n}.${String(even % 1_000_000n).padStart(6, '0')}`;
  }
  return `${sign}${magnitude.toFixed(6)}`;
}
