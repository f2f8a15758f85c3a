import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { budgetFor, interpolate } from '../stages/budget.js';
import { budgetTable, pooledThreshold } from './thresholds.js';

const merged = (costs: Float32Array, threshold: number) => costs.filter((cost) => cost < threshold).length;

test('as many costs as wanted lie strictly below the threshold', () => {
  const distinct = fc.uniqueArray(fc.float({ min: -50, max: 50, noNaN: true }), {
    minLength: 1,
    maxLength: 60,
    selector: (value) => value + 0,
  });
  fc.assert(
    fc.property(
      distinct,
      fc.integer({ min: 0, max: 20 }),
      fc.double({ min: 0, max: 70, noNaN: true }),
      (own, none, wanted) => {
        const costs = Float32Array.from([...own, ...new Array<number>(none).fill(Infinity)]);
        const threshold = pooledThreshold(costs, wanted);
        assert.equal(Math.fround(threshold), threshold);
        assert.equal(merged(costs, threshold), Math.min(own.length, Math.round(wanted)));
      },
    ),
  );
});

test('equal costs are merged all or none, whichever is nearer; −∞ when there is nothing to merge', () => {
  const costs = Float32Array.of(1, 2, 2, 2, 2, 3);
  const counts = [0, 1, 2, 3, 4, 5, 6].map((wanted) => merged(costs, pooledThreshold(costs, wanted)));
  assert.deepEqual(counts, [0, 1, 1, 1, 5, 5, 6]);
  const equal = new Float32Array(5).fill(-3);
  assert.equal(merged(equal, pooledThreshold(equal, 2)), 0);
  assert.equal(merged(equal, pooledThreshold(equal, 3)), 5);
  assert.equal(pooledThreshold(Float32Array.of(Infinity, Infinity), 1), -Infinity);
  assert.throws(() => pooledThreshold(Float32Array.of(1, NaN), 1), /a cost is NaN/);
});

test('neighbouring float32 costs are still told apart', () => {
  const next = Math.fround(1 + 2 ** -23);
  const costs = Float32Array.of(next, 1, 7);
  assert.equal(merged(costs, pooledThreshold(costs, 1)), 1);
  assert.equal(merged(costs, pooledThreshold(costs, 2)), 2);
  assert.equal(merged(costs, pooledThreshold(costs, 3)), 3);
});

test('a table is monotone, and JSON holds it', () => {
  const table = budgetTable([
    { flopsSaved: 0.3, kl: 0.002, thresholds: [1, 5] },
    { flopsSaved: 0.1, kl: 0.001, thresholds: [0, -Infinity] },
    { flopsSaved: 0.2, kl: 0.003, thresholds: [2, 4] },
    { flopsSaved: 0.5, kl: 0.02, thresholds: [1.5, 6] },
  ]);
  assert.deepEqual(table, {
    rows: [
      { flopsSaved: 0.1, kl: 0.001, thresholds: [0, -4] },
      { flopsSaved: 0.3, kl: 0.003, thresholds: [2, 5] },
      { flopsSaved: 0.5, kl: 0.02, thresholds: [2, 6] },
    ],
    scale: 1,
  });
  assert.deepEqual(JSON.parse(JSON.stringify(table)), table);
  assert.throws(() => budgetTable([]), /at least one row/);
  assert.throws(() => budgetTable([{ flopsSaved: 0.1, kl: NaN, thresholds: [1] }]), /expected numbers/);
});

test('a table is what the stages interpolate: at its rows, its own thresholds', () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.record({
          flopsSaved: fc.double({ min: 0.01, max: 0.9, noNaN: true }),
          kl: fc.double({ min: 1e-5, max: 1, noNaN: true }),
          thresholds: fc.tuple(
            fc.double({ min: -20, max: 5, noNaN: true }),
            fc.double({ min: -20, max: 5, noNaN: true }),
          ),
        }),
        { minLength: 1, maxLength: 8 },
      ),
      (rows) => {
        const table = budgetTable(rows);
        for (const { kl, flopsSaved, thresholds } of table.rows) {
          interpolate(table, kl).forEach((theta, c) => assert.ok(Math.abs(theta - thresholds[c]!) < 1e-6));
          assert.ok(Math.abs(budgetFor(table, flopsSaved) / kl - 1) < 1e-9);
        }
      },
    ),
  );
});
