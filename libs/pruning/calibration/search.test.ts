import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { FixedPlan } from '../plan.js';
import { predictedAt } from './search.js';

const rows = [
  { kl: 0.04, crossEntropyRise: 0.02 },
  { kl: 0.01, crossEntropyRise: -0.002 },
];
const near = (actual: number, expected: number) =>
  assert.ok(Math.abs(actual - expected) < 1e-12, `${actual}, expected ${expected}`);

test('what the searched samples foretell lies between their rows', () => {
  near(predictedAt(rows, 0.02, 'kl', null), 0.02);
  near(predictedAt(rows, 0.025, 'cross-entropy', null), 0.009);
  near(predictedAt(rows, 0.005, 'kl', null), 0.005);
  near(predictedAt(rows, 1, 'kl', null), 0.04);
  near(predictedAt(rows, 1, 'cross-entropy', null), 0.02);
});

test('it is never below what is gone for good costs by itself', () => {
  const removed: FixedPlan = { heads: [[0]], neurons: [[]], predicted: 0.001, measured: 0.006 };
  near(predictedAt(rows, 0.0004, 'kl', removed), 0.006);
  near(predictedAt(rows, 0.008, 'kl', removed), 0.008);
  near(predictedAt(rows, 0.02, 'kl', removed), 0.02);
});
