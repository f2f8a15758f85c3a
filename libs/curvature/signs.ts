import { xoroshiro128plus } from 'pure-rand/generator/xoroshiro128plus';

/**
 * Rademacher signs, +1 or −1 with equal chance. Every vector has a key of its own (seed, stream, sample, probe), so that what a
 * sample gets depends neither on the batch that it is in nor on what was drawn before. A shorter vector is the beginning of a longer one.
 */
export function drawSigns(out: Float32Array | Int8Array, ...key: readonly number[]): void {
  const random = xoroshiro128plus(mixed(key));
  // The state begins almost empty: its first numbers say little, the very first is always −1.
  for (let i = 0; i < warmUp; i++) random.next();
  for (let at = 0; at < out.length; at += bitsUsed) {
    // The lowest bits of xoroshiro128+ are linear in its state; the upper half is not.
    let bits = random.next() >>> (32 - bitsUsed);
    const end = Math.min(out.length, at + bitsUsed);
    for (let i = at; i < end; i++) {
      out[i] = bits & 1 ? 1 : -1;
      bits >>>= 1;
    }
  }
}

const warmUp = 24;
const bitsUsed = 16;

/** 32 bits of all parts of a key and of their order (the finaliser of MurmurHash3, Appleby 2011). */
function mixed(key: readonly number[]): number {
  let hash = 0x9e3779b9 | 0;
  for (const part of key) {
    // Both halves of what may be more than 32 bits.
    for (const word of [part | 0, Math.floor(part / 2 ** 32) | 0]) {
      hash = Math.imul(hash ^ word, 0x85ebca6b);
      hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
      hash ^= hash >>> 16;
    }
  }
  return hash;
}
