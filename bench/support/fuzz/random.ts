/** Draws of a fuzzer, each from a generator of its own, so that any of them can be made again by its number. */
import { integerIn, randomFor, type RandomGenerator } from '../../../libs/data/random.js';

export interface Draw {
  /** A whole number of [from, to]. */
  integer(from: number, to: number): number;
  chance(share: number): boolean;
  pick<T>(choices: readonly T[]): T;
  bytes(length: number): Uint8Array;
}

export function drawFor(...key: readonly number[]): Draw {
  const random: RandomGenerator = randomFor(...key);
  const integer = (from: number, to: number): number => integerIn(random, from, to);
  return {
    integer,
    chance: (share) => integer(0, 9999) < share * 10_000,
    pick: (choices) => choices[integer(0, choices.length - 1)]!,
    bytes: (length) => Uint8Array.from({ length }, () => integer(0, 255)),
  };
}

/** Bytes with a few bits turned over. */
export function flipped(draw: Draw, bytes: Uint8Array): Uint8Array {
  const copy = Uint8Array.from(bytes);
  if (copy.length === 0) return copy;
  for (let flips = draw.integer(1, 8); flips > 0; flips--) {
    const at = draw.integer(0, copy.length - 1);
    copy[at] = copy[at]! ^ (1 << draw.integer(0, 7));
  }
  return copy;
}

/** Bytes without their end. */
export function truncated(draw: Draw, bytes: Uint8Array): Uint8Array {
  return bytes.slice(0, draw.integer(0, Math.max(0, bytes.length - 1)));
}

/** Bytes of which a range is left out, doubled, overwritten, or moved elsewhere. */
export function spliced(draw: Draw, bytes: Uint8Array): Uint8Array {
  const from = draw.integer(0, bytes.length);
  const to = draw.integer(from, Math.min(bytes.length, from + 64));
  const [head, range, tail] = [bytes.slice(0, from), bytes.slice(from, to), bytes.slice(to)];
  const at = draw.integer(0, tail.length);
  return Buffer.concat(
    draw.pick([
      [head, tail],
      [head, range, range, tail],
      [head, draw.bytes(range.length), tail],
      [head, tail.slice(0, at), range, tail.slice(at)],
    ]),
  );
}
