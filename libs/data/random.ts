/**
 * Seeded randomness for data: a generator for every key (seed, split, index, epoch, …), so that a sample is the same
 * whatever was drawn before it. Xoroshiro128+ of `pure-rand`; keys are mixed by the finaliser of MurmurHash3.
 */
import { xoroshiro128plus } from 'pure-rand/generator/xoroshiro128plus';
import { uniformInt } from 'pure-rand/distribution/uniformInt';
import type { RandomGenerator } from 'pure-rand/types/RandomGenerator';

export type { RandomGenerator };

/** A generator that depends on all the given integers and on their order. */
export function randomFor(...key: readonly number[]): RandomGenerator {
  let hash = 0x9e3779b9 | 0;
  for (const part of key) {
    hash = Math.imul(hash ^ (part | 0), 0x85ebca6b);
    hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
    hash ^= hash >>> 16;
  }
  return xoroshiro128plus(hash);
}

/** A uniform integer of [from, to], both included. */
export function integerIn(random: RandomGenerator, from: number, to: number): number {
  return uniformInt(random, from, to);
}

/** 0 … size − 1 in a random order (Fisher–Yates). */
export function permutation(size: number, random: RandomGenerator): Int32Array {
  const order = Int32Array.from({ length: size }, (_, index) => index);
  for (let last = size - 1; last > 0; last--) {
    const other = uniformInt(random, 0, last);
    const held = order[last] as number;
    order[last] = order[other] as number;
    order[other] = held;
  }
  return order;
}
