import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { quantile } from './quantiles.js';
import { rankCorrelation, ranks } from './rank-correlation.js';

test('ties share the mean of their ranks', () => {
  assert.deepEqual([...ranks([3, 1, 3, 2, 3])], [4, 1, 4, 2, 4]);
  // scipy.stats.spearmanr([1, 2, 2, 3, 5], [2, 1, 3, 3, 9]) = 0.7631578947
  assert.ok(Math.abs(rankCorrelation([1, 2, 2, 3, 5], [2, 1, 3, 3, 9]) - 0.7631578947368421) < 1e-12);
});

test('without ties it is 1 − 6 Σd² / n(n² − 1), and any increasing map leaves it as it is', () => {
  const distinct = fc.uniqueArray(fc.integer({ min: -1000, max: 1000 }), { minLength: 5, maxLength: 30 });
  fc.assert(
    fc.property(distinct, distinct, (left, right) => {
      const n = Math.min(left.length, right.length);
      const [a, b] = [left.slice(0, n), right.slice(0, n)];
      const [x, y] = [ranks(a), ranks(b)];
      const squares = x.reduce((sum, rank, i) => sum + (rank - y[i]!) ** 2, 0);
      assert.ok(Math.abs(rankCorrelation(a, b) - (1 - (6 * squares) / (n * (n * n - 1)))) < 1e-12);
      assert.ok(Math.abs(rankCorrelation(a, b.map(Math.atan)) - rankCorrelation(a, b)) < 1e-12);
    }),
  );
});

test('nothing to correlate is NaN; lengths must agree', () => {
  assert.ok(Number.isNaN(rankCorrelation([1, 1], [1, 2])));
  assert.ok(Number.isNaN(rankCorrelation([1], [1])));
  assert.throws(() => rankCorrelation([1], [1, 2]), RangeError);
});

test('quantiles are those of numpy', () => {
  assert.equal(quantile([4, 1, 3, 2], 0.5), 2.5);
  assert.equal(quantile([4, 1, 3, 2], 1), 4);
  assert.ok(Math.abs(quantile([10, 20, 40], 0.9) - 36) < 1e-12);
  assert.equal(quantile([1, Infinity, Infinity], 0.75), Infinity);
  assert.throws(() => quantile([], 0.5), /at least one value/);
  assert.throws(() => quantile([1], 1.5), /expected 0 … 1/);
});
