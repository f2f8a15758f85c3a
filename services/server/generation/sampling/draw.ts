import type { RandomGenerator } from '../../../../libs/data/random.js';
import { argmax, largest } from './largest.js';

export interface DrawSettings {
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
}

/** Weights below e^-40 of the likeliest are nothing to a random number of 53 bits. */
const negligible = -40;

/**
 * Draws from softmax(logits / temperature), cut to the `topK` likeliest and to the smallest set of the likeliest whose probabilities sum
 * to `topP`. One number is drawn, whatever the settings. Undefined where the logits are no numbers.
 */
export function draw(logits: Float32Array, settings: DrawSettings, random: RandomGenerator): number | undefined {
  const best = argmax(logits);
  if (best < 0 || logits[best] === Infinity) return undefined;
  if (settings.temperature === 0) return best;
  const { topK, topP } = settings;
  const chance = uniform(random);
  const weight = weigher(logits[best]!, settings.temperature);
  if (topK > 0 && topK < logits.length) {
    const ids = largest(logits, topK);
    const kept = nucleus(logits, ids, weight, topP, total(logits, weight, ids))?.length ?? ids.length;
    return pick(logits, ids.subarray(0, kept), weight, chance);
  }
  if (topP < 1) return pick(logits, nucleusOfAll(logits, weight, topP), weight, chance);
  return pick(logits, undefined, weight, chance);
}

type Weight = (logit: number) => number;

function weigher(most: number, temperature: number): Weight {
  return (logit) => {
    const exponent = (logit - most) / temperature;
    return exponent > negligible ? Math.exp(exponent) : 0;
  };
}

function total(logits: Float32Array, weight: Weight, ids?: Int32Array): number {
  let sum = 0;
  if (ids === undefined) for (let i = 0; i < logits.length; i++) sum += weight(logits[i]!);
  else for (const id of ids) sum += weight(logits[id]!);
  return sum;
}

/** The first of `ids`, likeliest first, that sum to `share` of `sum`; undefined where all of them do not. */
function nucleus(
  logits: Float32Array,
  ids: Int32Array,
  weight: Weight,
  share: number,
  sum: number,
): Int32Array | undefined {
  let reached = 0;
  for (let at = 0; at < ids.length; at++) {
    reached += weight(logits[ids[at]!]!);
    if (reached >= share * sum) return ids.subarray(0, at + 1);
  }
  return undefined;
}

/** Few tokens make up most of a distribution, so more are sorted only where they are needed. */
function nucleusOfAll(logits: Float32Array, weight: Weight, share: number): Int32Array {
  const sum = total(logits, weight);
  for (let count = 64; ; count *= 8) {
    const ids = largest(logits, count);
    const kept = nucleus(logits, ids, weight, share, sum);
    if (kept) return kept;
    if (count >= logits.length) return ids;
  }
}

/** The one of `ids` (undefined: all, in their order) at which the running sum of weights passes `chance` of the whole. */
function pick(logits: Float32Array, ids: Int32Array | undefined, weight: Weight, chance: number): number {
  const goal = chance * total(logits, weight, ids);
  const count = ids?.length ?? logits.length;
  let reached = 0;
  let last = 0;
  for (let at = 0; at < count; at++) {
    const id = ids?.[at] ?? at;
    const each = weight(logits[id]!);
    if (each === 0) continue;
    last = id;
    reached += each;
    if (reached > goal) return id;
  }
  return last;
}

/** In [0, 1), 53 bits of two draws. */
function uniform(random: RandomGenerator): number {
  const high = random.next() >>> 5;
  const low = random.next() >>> 6;
  return (high * 2 ** 26 + low) / 2 ** 53;
}
