import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { randomFor, type RandomGenerator } from '../../data/random.js';
import type { HeartwoodError } from '../../errors/error.js';
import { leastSamples, samplesNeeded, upperBound } from './bound.js';
import { erf, normalCdf, normalQuantile, studentQuantile } from './normal.js';

const uniform = (random: RandomGenerator): number => ((random.next() >>> 0) + 0.5) / 2 ** 32;
const normal = (random: RandomGenerator): number =>
  Math.sqrt(-2 * Math.log(uniform(random))) * Math.cos(2 * Math.PI * uniform(random));

/** Log-normal values of mean 1. */
const logNormal = (sigma: number) => (random: RandomGenerator) =>
  Math.exp(sigma * normal(random) - (sigma * sigma) / 2);

/** Of the same mean, when half of the values are zero. */
const halfZero = (draw: (random: RandomGenerator) => number) => (random: RandomGenerator) =>
  uniform(random) < 0.5 ? 0 : 2 * draw(random);

/** The share of runs whose bound is below the true mean, which is 1, and the median bound. */
function misses(draw: (random: RandomGenerator) => number, n: number, runs: number): { share: number; median: number } {
  const bounds = Array.from({ length: runs }, (_, run) => {
    const random = randomFor(run, n);
    return upperBound(
      Float64Array.from({ length: n }, () => draw(random)),
      0.95,
      run,
    ).bound;
  }).sort((a, b) => a - b);
  return { share: bounds.filter((bound) => bound < 1).length / runs, median: bounds[runs >> 1]! };
}

// Over 800 to 1,500 runs the misses are 5.9 % (σ 1.5, n 200), 4.1 % (n 500), 6.9 % (σ 2, n 200), 4.5 % (n 500) and 7.3 % (half of them
// zero). Of 150 runs at 7 % more than 12 % miss in one case of a hundred, and the seeds are fixed.
for (const [name, draw, n, widest] of [
  ['log-normal, σ 1.5', logNormal(1.5), 200, 1.6],
  ['log-normal, σ 2', logNormal(2), 200, 2],
  ['half zero, half log-normal, σ 1.5', halfZero(logNormal(1.5)), 200, 1.8],
  ['uniform', (random: RandomGenerator) => 2 * uniform(random), 200, 1.25],
  ['half zero, half exponential', halfZero((random) => -Math.log(uniform(random))), 200, 1.4],
] as const) {
  test(`the bound holds and is not far off: ${name}, ${n} samples`, (t) => {
    const { share, median } = misses(draw, n, 150);
    t.diagnostic(`missed in ${(100 * share).toFixed(1)} % of 150 runs, median bound ${median.toFixed(2)} of the mean`);
    assert.ok(share <= 0.12, `missed in ${share}`);
    assert.ok(median <= widest, `the median bound is ${median} means`);
  });
}

test('a bound is at least the mean, follows the scale of the values, and is repeatable', () => {
  fc.assert(
    fc.property(fc.array(fc.double({ min: 0, max: 10, noNaN: true }), { minLength: 20, maxLength: 60 }), (values) => {
      const found = upperBound(values, 0.95, 4);
      assert.ok(found.bound >= found.mean * (1 - 1e-12));
      assert.equal(found.samples, values.length);
      assert.deepEqual(upperBound(values, 0.95, 4), found);
      const scaled = upperBound(
        values.map((value) => value * 8),
        0.95,
        4,
      );
      assert.ok(Math.abs(scaled.bound - 8 * found.bound) <= 1e-6 * scaled.bound);
    }),
    { numRuns: 25 },
  );
});

test('values without variation are their own bound; all zero is zero', () => {
  assert.ok(Math.abs(upperBound(new Float64Array(30).fill(0.25), 0.95, 1).bound - 0.25) < 1e-12);
  assert.equal(upperBound(new Float64Array(30), 0.95, 1).bound, 0);
});

test('the samples needed: as many again bring the bound to the budget', () => {
  const random = randomFor(3);
  const values = Float64Array.from({ length: 300 }, () => logNormal(1)(random));
  const { mean, bound } = upperBound(values, 0.95, 0);
  assert.equal(samplesNeeded(values, bound, 0.95), 300);
  assert.equal(samplesNeeded(values, mean + (bound - mean) / 2, 0.95), 1200);
  assert.equal(samplesNeeded(values, mean, 0.95), Infinity);
  assert.equal(samplesNeeded(values, 100 * bound, 0.95), leastSamples);
  const many = Float64Array.from({ length: 1200 }, (_, at) => values[at % 300]!);
  const halved = upperBound(many, 0.95, 0);
  assert.ok(Math.abs((halved.bound - mean) / (bound - mean) - 0.5) < 0.1);
});

test('too few values, negative ones and a senseless confidence are refused', () => {
  const refused = (values: number[], confidence: number, message: RegExp) =>
    assert.throws(
      () => upperBound(values, confidence, 0),
      (error: HeartwoodError) => error.code === 'INVALID_ARGUMENT' && message.test(error.message),
    );
  refused([1, 2, 3], 0.95, /at least 20 samples, got 3/);
  refused(
    Array.from({ length: 20 }, (_, i) => (i === 7 ? -1 : 1)),
    0.95,
    /sample 7 is -1/,
  );
  refused(
    Array.from({ length: 20 }, (_, i) => (i === 7 ? NaN : 1)),
    0.95,
    /sample 7 is NaN/,
  );
  refused(new Array<number>(20).fill(1), 1, /confidence is 1/);
});

test("the normal distribution and Student's t, against tables", () => {
  const close = (actual: number, expected: number, tolerance: number) =>
    assert.ok(Math.abs(actual - expected) < tolerance, `${actual}, expected ${expected}`);
  close(erf(0.5), 0.5204998778130465, 1e-15);
  close(erf(-2.5), -0.999593047982555, 1e-14);
  close(normalCdf(1.959963984540054), 0.975, 1e-14);
  close(normalQuantile(0.95), 1.6448536269514722, 1e-10);
  close(studentQuantile(0.95, 10), 1.8124611, 1e-3);
  close(studentQuantile(0.95, 199), 1.6525467, 1e-6);
});

test('weighted samples: the mean is the weighted one, equal weights change nothing, and the bound holds', (t) => {
  const random = randomFor(5);
  const values = Float64Array.from({ length: 40 }, () => logNormal(1)(random));
  assert.deepEqual(
    upperBound(values, 0.95, 1, new Float64Array(40).fill(3)).bound.toFixed(9),
    upperBound(values, 0.95, 1).bound.toFixed(9),
  );
  const weights = Float64Array.from({ length: 40 }, (_, i) => 1 + (i % 7));
  const total = weights.reduce((a, b) => a + b, 0);
  const expected = values.reduce((sum, value, i) => sum + (value * weights[i]!) / total, 0);
  assert.ok(Math.abs(upperBound(values, 0.95, 1, weights).mean - expected) < 1e-12);
  // Documents of which the longer ones lose more: the weighted mean of all there are is E[w x] / E[w].
  let missed = 0;
  for (let run = 0; run < 150; run++) {
    const draw = randomFor(run, 77);
    const lengths = Float64Array.from({ length: 60 }, () => 1 + 9 * uniform(draw));
    const losses = lengths.map((length) => (length / 10) * logNormal(1)(draw));
    // E[w²] / 10 E[w] of w uniform on 1 … 10.
    if (upperBound(losses, 0.95, run, lengths).bound < 37 / 55) missed++;
  }
  t.diagnostic(`missed in ${((100 * missed) / 150).toFixed(1)} % of 150 runs`);
  assert.ok(missed <= 0.12 * 150, `missed in ${missed} of 150`);
});
