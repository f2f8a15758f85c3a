import { xoroshiro128plus } from 'pure-rand/generator/xoroshiro128plus';

/** Normal numbers of mean 0 and variance 1 (Box and Muller). */
export function normalNumbers(count: number, seed: number): Float32Array {
  const random = xoroshiro128plus(seed);
  const uniform = () => (random.next() >>> 0) / 2 ** 32;
  return Float32Array.from(
    { length: count },
    () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform()),
  );
}
