import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { randomFor } from '../../../../libs/data/random.js';
import { greedy, type Sampling } from '../request.js';
import { draw } from './draw.js';
import { argmax, largest } from './largest.js';
import { logprobsOf } from './logprobs.js';
import { Sampler } from './sampler.js';

/** Few values, so that many are equal. */
const values = fc
  .array(fc.integer({ min: -4, max: 4 }), { minLength: 1, maxLength: 60 })
  .map((list) => Float32Array.from(list));

test('the largest are those of a whole sort, and the first of them is the argmax', () => {
  fc.assert(
    fc.property(values, fc.nat(70), (list, count) => {
      const sorted = [...list.keys()].sort((a, b) => list[b]! - list[a]! || a - b);
      assert.deepEqual([...largest(list, count)], sorted.slice(0, count));
      assert.equal(argmax(list), sorted[0]);
    }),
  );
  assert.equal(argmax(Float32Array.of(NaN, NaN)), -1);
  assert.equal(argmax(Float32Array.of(NaN, 1, NaN, 2)), 3);
});

/** Probabilities of the tokens that may be drawn, by the definitions and with no care for time. */
function distribution(logits: Float32Array, { temperature, topK, topP }: Sampling): Map<number, number> {
  const order = [...logits.keys()].sort((a, b) => logits[b]! - logits[a]! || a - b);
  const kept = order.slice(0, topK === 0 ? undefined : topK);
  const weights = kept.map((id) => Math.exp((logits[id]! - logits[kept[0]!]!) / temperature));
  const whole = weights.reduce((sum, weight) => sum + weight, 0);
  let reached = 0;
  let length = 0;
  while (length < kept.length && reached < topP * whole) reached += weights[length++]!;
  return new Map(kept.slice(0, length).map((id, i) => [id, weights[i]! / reached]));
}

describe('a draw', () => {
  const settings: Sampling[] = [
    { ...greedy, temperature: 1 },
    { ...greedy, temperature: 0.5, topK: 5 },
    { ...greedy, temperature: 1.5, topP: 0.8 },
    { ...greedy, temperature: 1, topK: 300, topP: 0.6 },
    { ...greedy, temperature: 3, topP: 0.99 },
  ];
  for (const sampling of settings) {
    test(`has the frequencies of ${JSON.stringify(sampling)}`, () => {
      const logits = Float32Array.from({ length: 400 }, (_, i) => 3 * Math.sin(i * 1.7) + (i % 7 === 0 ? 2 : 0));
      const expected = distribution(logits, sampling);
      const random = randomFor(1, 2);
      const counts = new Map<number, number>();
      const draws = 20_000;
      for (let i = 0; i < draws; i++) {
        const id = draw(logits, sampling, random)!;
        counts.set(id, (counts.get(id) ?? 0) + 1);
      }
      for (const id of counts.keys()) assert.ok(expected.has(id), `token ${id} is not among those that may be drawn`);
      // χ² over the tokens that are drawn often enough; its mean is their number, its variance twice that.
      const often = [...expected].filter(([, share]) => share * draws >= 10);
      const square = often.reduce((sum, [id, share]) => {
        const mean = share * draws;
        return sum + ((counts.get(id) ?? 0) - mean) ** 2 / mean;
      }, 0);
      assert.ok(square < often.length + 5 * Math.sqrt(2 * often.length), `χ² is ${square} over ${often.length}`);
    });
  }

  test('is the likeliest at temperature 0, and takes no random number', () => {
    const random = { next: () => assert.fail('a number was drawn') } as never;
    assert.equal(draw(Float32Array.of(0, 2, 2, 1), greedy, random), 1);
  });

  test('takes as many random numbers whatever it comes to', () => {
    fc.assert(
      fc.property(values, fc.nat(3), fc.double({ min: 0.1, max: 1, noNaN: true }), (logits, topK, topP) => {
        let drawn = 0;
        const random = randomFor(3);
        const counted = { next: () => (drawn++, random.next()) } as never;
        draw(logits, { temperature: 1, topK, topP }, counted);
        assert.equal(drawn, 2);
      }),
    );
  });

  test('of what are no logits is refused', () => {
    assert.equal(draw(Float32Array.of(NaN), greedy, randomFor(1)), undefined);
    assert.equal(draw(Float32Array.of(1, Infinity), { ...greedy, temperature: 1 }, randomFor(1)), undefined);
    assert.throws(() => new Sampler(greedy, 1, [], undefined).next(Float32Array.of(NaN, NaN)), { code: 'INTERNAL' });
  });
});

test('a repetition penalty divides what is positive and multiplies what is negative, once for each token', () => {
  const sampler = new Sampler({ ...greedy, repetitionPenalty: 2 }, 1, [0, 3, 3], undefined);
  const logits = Float32Array.of(4, 3, 2.5, -1);
  assert.equal(sampler.next(logits).id, 1);
  assert.deepEqual([...logits], [2, 3, 2.5, -2]);
  // The one that was drawn is among them from then on.
  assert.equal(sampler.next(Float32Array.of(4, 3, 2.5, -1)).id, 2);
});

test('log-probabilities are of the model’s own logits, penalty and temperature aside', () => {
  const logits = [4, 3, 2.5, -1];
  const norm = Math.log(logits.reduce((sum, value) => sum + Math.exp(value), 0));
  const sampler = new Sampler({ ...greedy, repetitionPenalty: 2 }, 1, [0], 2);
  const { id, logprob, top } = sampler.next(Float32Array.from(logits));
  assert.equal(id, 1);
  assert.ok(Math.abs(logprob! - (3 - norm)) < 1e-6);
  assert.deepEqual(
    top?.map((each) => each.id),
    [0, 1],
  );
  assert.ok(Math.abs(top[0]!.logprob - (4 - norm)) < 1e-6);
  assert.deepEqual(logprobsOf(Float32Array.from(logits), 2, 0).top, []);
});

test('seeds beyond 32 bits are seeds of their own', () => {
  const logits = Float32Array.from({ length: 1000 }, () => 0);
  const first = (seed: number) => new Sampler({ ...greedy, temperature: 1 }, seed, [], undefined).next(logits).id;
  const seeds = [0, 1, 2 ** 32, 2 ** 33, 2 ** 53 - 1];
  assert.equal(new Set(seeds.map(first)).size, seeds.length);
});
