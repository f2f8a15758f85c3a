/**
 * Half precision, exactly: IEEE 754 binary16 (1 sign, 5 exponent, 10 fraction bits) and bfloat16 (1, 8, 7; the upper half of a
 * float32). Narrowing rounds to nearest, ties to even, as torch does; NaN stays NaN.
 */

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

/** The value of a binary16. Every one is a float32. */
export function fromFloat16(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >> 10) & 0x1f;
  const fraction = half & 0x3ff;
  if (exponent === 0x1f) return fraction === 0 ? sign * Infinity : NaN;
  // Subnormals have no hidden one and the exponent of the smallest normals.
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1024 + fraction) * 2 ** (exponent - 25);
}

/** The binary16 nearest to a float32. */
export function toFloat16(value: number): number {
  float[0] = value;
  const word = bits[0]!;
  const sign = (word >>> 16) & 0x8000;
  const magnitude = word & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  // 65520, half-way between the largest finite value and 2^16, rounds to infinity.
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  // At and above the smallest normal, 2^-14: shift out 13 bits with rounding; a carry runs into the exponent, as it should.
  if (magnitude >= 0x38800000) return sign | roundedShift(magnitude - 0x38000000, 13);
  // At or below half the smallest subnormal, 2^-25, the nearest (or the even one of two) is 0.
  if (magnitude <= 0x33000000) return sign;
  const exponent = magnitude >>> 23;
  return sign | roundedShift((magnitude & 0x7fffff) | 0x800000, 126 - exponent);
}

/** The value of a bfloat16. */
export function fromBfloat16(half: number): number {
  bits[0] = half << 16;
  return float[0]!;
}

/** The bfloat16 nearest to a float32. */
export function toBfloat16(value: number): number {
  float[0] = value;
  const word = bits[0]!;
  if ((word & 0x7fffffff) > 0x7f800000) return ((word >>> 16) & 0x8000) | 0x7fc0;
  return ((word >>> 16) & 0x8000) | roundedShift(word & 0x7fffffff, 16);
}

/** word / 2^shift, rounded to nearest, ties to even. */
function roundedShift(word: number, shift: number): number {
  const quotient = word >>> shift;
  const rest = word - quotient * 2 ** shift;
  const half = 2 ** (shift - 1);
  return rest > half || (rest === half && quotient & 1) ? quotient + 1 : quotient;
}

const binary16Values = Float32Array.from({ length: 1 << 16 }, (_, half) => fromFloat16(half));

/** Widens an array of binary16. */
export function widenFloat16(halves: Uint16Array): Float32Array {
  const values = new Float32Array(halves.length);
  for (let i = 0; i < halves.length; i++) values[i] = binary16Values[halves[i]!]!;
  return values;
}

/** Widens an array of bfloat16. */
export function widenBfloat16(halves: Uint16Array): Float32Array {
  const words = new Uint32Array(halves.length);
  for (let i = 0; i < halves.length; i++) words[i] = halves[i]! << 16;
  return new Float32Array(words.buffer);
}

/** Rounds float32 values to those of float16, in place: what a checkpoint of halves will hold. */
export function roundToFloat16(values: Float32Array): void {
  for (let at = 0; at < values.length; at++) values[at] = fromFloat16(toFloat16(values[at]!));
}
