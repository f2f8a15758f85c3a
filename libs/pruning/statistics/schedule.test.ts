import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { flopsAt } from '../../store/segments.js';
import { geometricSchedule, mergesOf, stageBlocks } from './schedule.js';

/** A transformer of six blocks with three stages: what stands before them is constant. */
const segments = [
  { constant: 5e6, linear: 0, quadratic: 0 },
  { constant: 0, linear: 3e5, quadratic: 500 },
  { constant: 0, linear: 4e5, quadratic: 500 },
  { constant: 1e5, linear: 16e5, quadratic: 2000 },
];
const problem = { tokens: 65, special: 1, segments };
const dense = flopsAt(segments, [65, 65, 65], 65);

test('stages sit at 0, a sixth and a third of the blocks, each block once', () => {
  const places = [1, 2, 3, 4, 6, 12, 24].map((blocks) => stageBlocks(blocks));
  assert.deepEqual(places, [[0], [0, 1], [0, 1], [0, 1], [0, 1, 2], [0, 2, 4], [0, 4, 8]]);
  assert.deepEqual(stageBlocks(3, [0, 0.5, 1]), [0, 2]);
  assert.throws(() => stageBlocks(0), /expected at least 1/);
});

test('the counts are geometric and their FLOPs are what was asked', () => {
  fc.assert(
    fc.property(fc.double({ min: 0, max: 0.8, noNaN: true }), (fraction) => {
      const { tokens, ratio, saved } = geometricSchedule(problem, fraction);
      assert.ok(Math.abs(saved - fraction) < 1e-9, `${saved}, asked ${fraction}`);
      assert.ok(Math.abs(1 - flopsAt(segments, tokens, 65) / dense - saved) < 1e-12);
      tokens.forEach((count, k) => {
        const geometric = 65 * (1 - ratio) ** (k + 1);
        const limit = 1 + ((tokens[k - 1] ?? 65) - 1) / 4;
        assert.ok(Math.abs(count - Math.max(geometric, limit, 4)) < 1e-9, `${count} after stage ${k}, ρ ${ratio}`);
      });
    }),
  );
});

test('tapering, the first stage takes more and the last one less, and the FLOPs are still what was asked', () => {
  const { tokens, ratio, saved } = geometricSchedule({ ...problem, taper: 0.25 }, 0.5);
  assert.ok(Math.abs(saved - 0.5) < 1e-9);
  [1.25, 2.25, 3].forEach((exponent, k) => assert.ok(Math.abs(tokens[k]! - 65 * (1 - ratio) ** exponent) < 1e-9));
  const single = { ...problem, segments: segments.slice(0, 2) };
  assert.deepEqual(geometricSchedule({ ...single, taper: 0.25 }, 0.1), geometricSchedule(single, 0.1));
});

test('no more is taken than the matchings can, and the floor holds; what was reached is said', () => {
  const all = geometricSchedule(problem, 0.95);
  assert.deepEqual(all.tokens, [17, 5, 4]);
  assert.ok(all.saved < 0.95 && all.saved > 0.8);
  const one = geometricSchedule({ ...problem, matchings: 1 }, 0.95);
  assert.deepEqual(one.tokens, [33, 17, 9]);
  assert.deepEqual(geometricSchedule({ ...problem, floor: 20 }, 0.95).tokens, [20, 20, 20]);
  assert.throws(() => geometricSchedule(problem, 1), /fraction to save is 1/);
});

test('the fraction is of the dense FLOPs given: stages that cost something must save more', () => {
  const cheaper = geometricSchedule({ ...problem, dense: dense * 0.98 }, 0.3);
  assert.ok(Math.abs(flopsAt(segments, cheaper.tokens, 65) - 0.7 * 0.98 * dense) < 1e-6 * dense);
  assert.ok(geometricSchedule({ ...problem, dense: dense * 0.98 }, 0).saved >= -1e-9);
});

test('the matchings of a stage share its merges evenly, as far as halves go', () => {
  assert.deepEqual(mergesOf(65, 45, 1, 2), [10, 10]);
  assert.deepEqual(mergesOf(65, 65, 1, 2), [0, 0]);
  assert.deepEqual(mergesOf(65, 17, 1, 2), [32, 16]);
  fc.assert(
    fc.property(
      fc.double({ min: 8, max: 300, noNaN: true }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      fc.integer({ min: 1, max: 3 }),
      (before, share, matchings) => {
        const after = before - share * (before - 1) * (1 - 2 ** -matchings);
        const merges = mergesOf(before, after, 1, matchings);
        assert.ok(Math.abs(merges.reduce((a, b) => a + b, 0) - (before - after)) < 1e-9);
        let patches = before - 1;
        for (const merged of merges) {
          assert.ok(merged >= 0 && merged <= patches / 2 + 1e-9);
          patches -= merged;
        }
      },
    ),
  );
});
