/** A baseline for language models over bytes: the interpolated n-gram of Witten & Bell (1991, "The zero-frequency problem"). */
import type { TokenDocument } from '../data/text/dataset.js';

/** Below this in a key: contexts of up to 6 tokens of 8 bits and some stay exact in a double. */
const base = 257;

/**
 * Mean nats of each token of `test` under the n-gram of `order` tokens trained on `training`:
 * P(w | c) = (n(c w) + t(c) P(w | c′)) / (n(c) + t(c)), where t(c) is how many different tokens followed c and c′ is c without its first
 * token; at the end 1/257. Tokens are below 257, and the order is at most 6.
 */
export function ngramLoss(training: readonly TokenDocument[], test: readonly TokenDocument[], order: number): number {
  // By the length of the context: how often each context, and each context with its next token, was seen; how many tokens follow.
  const seen = Array.from({ length: order }, () => ({
    contexts: new Map<number, number>(),
    followed: new Map<number, number>(),
    kinds: new Map<number, number>(),
  }));
  const raise = (counts: Map<number, number>, key: number) => counts.set(key, (counts.get(key) ?? 0) + 1);
  for (const { ids } of training) {
    ids.forEach((id, at) => {
      for (let length = 0; length < Math.min(order, at + 1); length++) {
        const { contexts, followed, kinds } = seen[length]!;
        const context = keyOf(ids, at, length);
        const pair = context * base + id;
        raise(contexts, context);
        if (!followed.has(pair)) raise(kinds, context);
        raise(followed, pair);
      }
    });
  }
  let loss = 0;
  let tokens = 0;
  for (const { ids } of test) {
    ids.forEach((id, at) => {
      let probability = 1 / base;
      for (let length = 0; length < Math.min(order, at + 1); length++) {
        const { contexts, followed, kinds } = seen[length]!;
        const context = keyOf(ids, at, length);
        const count = contexts.get(context);
        if (count === undefined) break;
        const different = kinds.get(context)!;
        probability = ((followed.get(context * base + id) ?? 0) + different * probability) / (count + different);
      }
      loss -= Math.log(probability);
      tokens++;
    });
  }
  return loss / tokens;
}

/** The `length` tokens before `at` as a number. */
function keyOf(ids: Int32Array, at: number, length: number): number {
  let key = 0;
  for (let back = length; back > 0; back--) key = key * base + ids[at - back]!;
  return key;
}
