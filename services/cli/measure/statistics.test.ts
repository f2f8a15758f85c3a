import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { argmax, klDivergence, logSoftmax, quantile } from './statistics.js';

const row = fc.array(fc.float({ min: -50, max: 50, noNaN: true }), { minLength: 3, maxLength: 3 });

describe('statistics', () => {
  it('log softmax are log probabilities in the order of the logits, however large', () => {
    fc.assert(
      fc.property(row, fc.float({ min: -1e4, max: 1e4, noNaN: true }), (logits, shift) => {
        const log = logSoftmax(Float32Array.from([0, 0, 0, ...logits.map((z) => z + shift)]), 1, 3);
        const sum = log.reduce((total, value) => total + Math.exp(value), 0);
        assert.ok(Math.abs(sum - 1) < 1e-9);
        assert.ok(
          Math.abs(log[0]! - log[1]! - (Math.fround(logits[0]! + shift) - Math.fround(logits[1]! + shift))) < 1e-9,
        );
      }),
    );
  });

  it('KL is zero for equals, positive otherwise, and right for a coin', () => {
    fc.assert(
      fc.property(row, row, (a, b) => {
        const [p, q] = [logSoftmax(Float32Array.from(a), 0, 3), logSoftmax(Float32Array.from(b), 0, 3)];
        assert.equal(klDivergence(p, p), 0);
        assert.ok(klDivergence(p, q) > -1e-12);
      }),
    );
    const [fair, biased] = [
      [0.5, 0.5],
      [0.75, 0.25],
    ].map((p) => Float64Array.from(p, Math.log));
    assert.ok(Math.abs(klDivergence(fair!, biased!) - 0.5 * Math.log(4 / 3)) < 1e-12);
  });

  it('quantiles are between order statistics', () => {
    assert.equal(quantile([3, 1, 2], 0.5), 2);
    assert.equal(quantile([4, 1, 2, 3], 0.5), 2.5);
    assert.equal(quantile([1, 2], 0.95), 1.95);
    assert.equal(quantile([7], 0.95), 7);
    assert.ok(Number.isNaN(quantile([], 0.5)));
  });

  it('argmax takes the first of equals', () => assert.equal(argmax([1, 3, 3]), 1));
});
