import assert from 'node:assert/strict';
import { test } from 'node:test';
import { randomFor } from '../../../../libs/data/random.js';
import { studentQuantile } from '../../../../libs/pruning/statistics/normal.js';
import { LossWatch } from './loss-watch.js';

function watchOf(promised: number, samples: readonly (readonly [kl: number, weight: number])[]): LossWatch {
  const watch = new LossWatch(promised);
  for (const [kl, weight] of samples) watch.add({ kl, weight });
  return watch;
}

test('images count alike: the lower bound is Student’s, of the mean', () => {
  const values = Array.from({ length: 30 }, (_, i) => 0.01 * (i + 1));
  const mean = values.reduce((sum, value) => sum + value, 0) / 30;
  const deviation = Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / 29);
  const bound = watchOf(
    1,
    values.map((kl) => [kl, 1]),
  ).lowerBound!;
  assert.ok(Math.abs(bound - (mean - (studentQuantile(0.95, 29) * deviation) / Math.sqrt(30))) < 1e-12);
});

test('texts count by their tokens, and are the samples: a long one makes the mean and no certainty', () => {
  // Nineteen texts are too few, however many tokens they have.
  const long = Array.from({ length: 19 }, () => [0.5, 1000] as const);
  const few = watchOf(0.01, long);
  assert.equal(few.lowerBound, undefined);
  assert.equal(few.broken, false);
  few.add({ kl: 0.5, weight: 1000 });
  assert.equal(few.broken, true);

  // One long text that loses much, among short ones that lose nothing.
  const short = Array.from({ length: 40 }, () => [0, 1] as const);
  const mixed = watchOf(0.01, [...short, [1, 1000]]);
  assert.equal(mixed.lowerBound, undefined, 'it hangs by one text');
  assert.equal(mixed.broken, false);
  // The bound is of the mean over tokens, so short texts that lose much do not make it.
  const tokens = Array.from({ length: 40 }, (_, i) => (i % 2 === 0 ? ([0.02, 100] as const) : ([2, 1] as const)));
  const weighted = (20 * 0.02 * 100 + 20 * 2) / (20 * 101);
  const { lowerBound } = watchOf(0.05, tokens);
  assert.ok(lowerBound! < weighted && lowerBound! > 0.02, `${lowerBound} of ${weighted}`);
  assert.equal(watchOf(0.05, tokens).broken, false);
});

test('a promise that is kept on the mean is called broken as seldom as the bound says', () => {
  // Tokens of a text lose alike: its level is drawn anew for each text, its length too.
  let broken = 0;
  const watches = 400;
  for (let w = 0; w < watches; w++) {
    const random = randomFor(7, w);
    const uniform = () => (random.next() >>> 0) / 2 ** 32;
    const texts = Array.from(
      { length: 60 },
      () => [-0.05 * Math.log(1 - uniform()), 1 + Math.floor(50 * uniform())] as const,
    );
    if (watchOf(0.05, texts).broken) broken++;
  }
  // 5 % were 20; the skew makes it fewer, five standard deviations of a binomial count more were 42.
  assert.ok(broken <= 42, `${broken} of ${watches}`);
});
