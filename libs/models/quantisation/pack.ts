import { packedBytes, type Bits } from './blocks.js';

/** Writes numbers of 0 … 2^bits − 1 into `into` from byte `offset` on; of two 4-bit numbers the first is the low half. */
export function pack(numbers: Uint8Array, bits: Bits, into: Uint8Array, offset: number): void {
  if (bits === 8) {
    into.set(numbers, offset);
    return;
  }
  const bytes = packedBytes(numbers.length, bits);
  for (let i = 0; i < bytes; i++) into[offset + i] = numbers[2 * i]! | ((numbers[2 * i + 1] ?? 0) << 4);
}

/** Reads as many numbers as `into` takes from byte `offset` on. */
export function unpack(packed: Uint8Array, bits: Bits, into: Uint8Array, offset: number): void {
  if (bits === 8) {
    into.set(packed.subarray(offset, offset + into.length));
    return;
  }
  for (let i = 0; i < into.length; i++) {
    const byte = packed[offset + (i >> 1)]!;
    into[i] = i % 2 === 0 ? byte & 15 : byte >> 4;
  }
}
