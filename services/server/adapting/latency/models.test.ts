import assert from 'node:assert/strict';
import { test } from 'node:test';
import { randomFor } from '../../../../libs/data/random.js';
import { ladderOf } from './ladder.js';
import { objectiveOf, parseObjective } from './objective.js';
import { foretoldP95 } from './queue-model.js';
import { p95Since, recent, type EndedCall } from './recent-calls.js';
import { costAt, learn, serviceModel } from './service-model.js';

test('the ladder: equal savings where the plan has a table, equal ratios where it has none, none where there is no room', () => {
  const rows = [0.1, 0.2, 0.3, 0.4, 0.5].map((flopsSaved, at) => ({
    flopsSaved,
    kl: 10 ** (at - 4),
    thresholds: [null],
  }));
  const planned = ladderOf({ budget: { default: 1e-3, ceiling: 1 }, plan: { tokens: { table: { rows, scale: 1 } } } });
  assert.equal(planned?.budgets.length, 9);
  assert.equal(planned.budgets[0], 1e-3);
  assert.equal(planned.budgets[8], 1);
  // log ε is linear in the share here: 0.3 of the FLOPs over 3 decades.
  planned.budgets.forEach((budget, at) => assert.ok(Math.abs(Math.log10(budget) - (-3 + (3 * at) / 8)) < 1e-6));
  planned.work.forEach((work, at) => assert.ok(Math.abs(work - (0.8 - (0.3 * at) / 8) / 0.8) < 1e-6));

  const plain = ladderOf({ budget: { default: 0.01, ceiling: 0.16 }, plan: null });
  plain?.budgets.forEach((budget, at) => assert.ok(Math.abs(budget / (0.01 * 2 ** (at / 2)) - 1) < 1e-9));
  const fromNothing = ladderOf({ budget: { default: 0, ceiling: 1 }, plan: { tokens: 'odd' } });
  assert.equal(fromNothing?.budgets[0], 0);
  assert.ok(fromNothing.budgets.every((budget, at) => at === 0 || budget > fromNothing.budgets[at - 1]!));
  assert.equal(ladderOf({ budget: { default: 1, ceiling: 1 }, plan: null }), undefined);
  assert.equal(ladderOf({ budget: null, plan: null }), undefined);
});

test('the queue’s model against a simulated queue', () => {
  for (const busy of [0.3, 0.5, 0.7, 0.85]) {
    const random = randomFor(5, Math.round(100 * busy));
    const uniform = () => (random.next() >>> 0) / 2 ** 32;
    const latencies: number[] = [];
    let [now, free] = [0, 0];
    for (let call = 0; call < 200_000; call++) {
      now += -Math.log(1 - uniform()) / busy;
      free = Math.max(free, now) + 1;
      latencies.push(free - now);
    }
    const measured = latencies.sort((a, b) => a - b)[Math.floor(0.95 * latencies.length)]!;
    const foretold = foretoldP95({ rate: busy, others: 0 }, { workMs: 1, runMs: 1 });
    assert.ok(foretold > 0.9 * measured && foretold < 1.35 * measured, `${foretold} for ${measured} at ${busy}`);
  }
  assert.equal(foretoldP95({ rate: 1, others: 0.2 }, { workMs: 1, runMs: 1 }), Infinity);
  assert.equal(foretoldP95({ rate: 0, others: 0 }, { workMs: 1, runMs: 3 }), 3);
});

test('costs: foretold from the nearest rung, learnt at each, and moved together by a chip that gets hot', () => {
  let model = serviceModel([1, 0.8, 0.5]);
  assert.equal(costAt(model, 1), undefined);
  model = learn(model, 0, { workMs: 10, runMs: 20 }, 100);
  assert.deepEqual(costAt(model, 2), { workMs: 5, runMs: 10 });
  model = learn(model, 2, { workMs: 4, runMs: 8 }, 100);
  assert.deepEqual(costAt(model, 2), { workMs: 4, runMs: 8 });
  assert.deepEqual(costAt(model, 1), { workMs: 8, runMs: 16 });
  for (let times = 0; times < 50; times++) model = learn(model, 2, { workMs: 8, runMs: 16 }, 10);
  assert.ok(Math.abs(costAt(model, 2)!.workMs - 8) < 0.1);
  assert.ok(Math.abs(costAt(model, 0)!.workMs - 20) < 0.5, 'what one rung shows holds for all');
  // Calls that share a run with three others: the run is four times their work at every rung.
  for (let times = 0; times < 50; times++) model = learn(model, 2, { workMs: 8, runMs: 32 }, 10);
  assert.ok(Math.abs(costAt(model, 0)!.runMs / costAt(model, 0)!.workMs - 4) < 0.01);
  // A rung that turns out dearer than a lower one counts as no dearer.
  model = learn(serviceModel([1, 0.5]), 0, { workMs: 10, runMs: 10 }, 100);
  model = learn(model, 1, { workMs: 12, runMs: 12 }, 5);
  assert.deepEqual(costAt(model, 1), { workMs: 10, runMs: 10 });
});

test('the 95th percentile of the calls since a change', () => {
  const call = (arrivedAt: number, totalMs: number): EndedCall => ({
    arrivedAt,
    endedAt: arrivedAt + 1,
    totalMs,
    rung: 0,
  });
  const calls = Array.from({ length: 100 }, (_, at) => call(at, at + 1));
  assert.equal(p95Since(calls, 0), 95);
  assert.equal(p95Since(calls, 80), 99);
  assert.equal(p95Since(calls, 81), undefined, 'nineteen are too few');
  assert.equal(p95Since([...calls.slice(0, 18), call(100, Infinity), call(100, Infinity)], 0), Infinity);
  assert.equal(recent(calls, [], 100, 30).length, 31);
  assert.equal(recent(calls, [], 300, 30).length, 20);
  assert.equal(recent(calls, [], 1000, 30).length, 0);
});

test('objectives as the option says them', () => {
  assert.deepEqual(parseObjective('50ms'), { model: null, ms: 50 });
  assert.deepEqual(parseObjective('50'), { model: null, ms: 50 });
  assert.deepEqual(parseObjective('0.05s'), { model: null, ms: 50 });
  assert.deepEqual(parseObjective('vit=1.5s'), { model: 'vit', ms: 1500 });
  for (const text of ['', 'fast', '0ms', '-1', '=5', '5m', 'a=b=5']) {
    assert.throws(() => parseObjective(text), { code: 'INVALID_ARGUMENT', message: /expected such as 50ms/ }, text);
  }
  const objectives = ['50', 'vit=20'].map(parseObjective);
  assert.deepEqual([objectiveOf(objectives, 'vit'), objectiveOf(objectives, 'net')], [20, 50]);
  assert.equal(objectiveOf([], 'vit'), undefined);
});
