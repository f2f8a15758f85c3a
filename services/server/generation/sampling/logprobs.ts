import type { GeneratedToken } from '../event.js';
import { argmax, largest } from './largest.js';

/** Log-probabilities of `id` and of the `top` likeliest tokens under softmax(logits). */
export function logprobsOf(logits: Float32Array, id: number, top: number): GeneratedToken {
  const most = logits[argmax(logits)]!;
  let sum = 0;
  for (let i = 0; i < logits.length; i++) sum += Math.exp(logits[i]! - most);
  const norm = most + Math.log(sum);
  const likeliest = Array.from(largest(logits, top), (each) => ({ id: each, logprob: logits[each]! - norm }));
  return { id, logprob: logits[id]! - norm, top: likeliest };
}
