import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { p95Of, simulate, turnsOf, type Plant } from '../testing/simulated-queue.js';

const objectiveMs = 50;
const rungs = 9;
/** As foretold where nothing is known; the plant below saves more, which the law has to find out. */
const work = Array.from({ length: rungs }, (_, rung) => 1 - (0.5 * rung) / (rungs - 1));
const serviceMs = (rung: number): number => 10 * (1 - (0.6 * rung) / (rungs - 1));
const second = 1000;

const plant = (more: Partial<Plant>): Plant => ({
  settings: { objectiveMs, work },
  serviceMs,
  rate: () => 50,
  untilMs: 60 * second,
  tickMs: 20,
  seed: 1,
  ...more,
});

const between = (low: number, high: number, from: number, to: number) => (now: number) =>
  now >= from && now < to ? high : low;

test('a step in load: the objective holds where it would not, no long queue builds up, and the default comes back', () => {
  for (const seed of [1, 2, 3]) {
    const step = plant({ seed, rate: between(50, 130, 15 * second, 40 * second), untilMs: 120 * second });
    const held = simulate(step);
    const missed = simulate({ ...step, controlled: false });
    assert.equal(held.rungAt(14 * second), 0, 'a load that the default bears changes nothing');
    assert.ok(p95Of(held, 15 * second, 40 * second) <= objectiveMs);
    assert.ok(p95Of(missed, 15 * second, 40 * second) > 20 * objectiveMs);
    const worst = Math.max(...held.answered.map(({ latencyMs }) => latencyMs));
    assert.ok(worst <= 3 * objectiveMs, `a call took ${worst} ms`);
    // With the load gone the budget falls, rung by rung, and what is left of the peak is tried again ever more seldom.
    assert.ok(Math.min(...[80, 90, 100, 110, 119].map((at) => held.rungAt(at * second))) <= 4);
    assert.ok(turnsOf(held) <= 8, `${turnsOf(held)} turns`);
  }
});

test('a light load after a heavy one: back to the default, without a turn', () => {
  for (const seed of [1, 2, 3]) {
    const trace = simulate(plant({ seed, rate: between(20, 180, 10 * second, 20 * second) }));
    assert.equal(trace.rungAt(19 * second) > 4, true);
    assert.equal(trace.rungAt(60 * second), 0);
    assert.ok(turnsOf(trace) <= 3, `${turnsOf(trace)} turns`);
  }
});

test('a ramp up and down is followed', () => {
  const ramp = (now: number) => 20 + 130 * (now < 30 * second ? now / 30 / second : 2 - now / 30 / second);
  const trace = simulate(plant({ rate: ramp }));
  for (const from of [0, 15, 30, 45]) {
    assert.ok(p95Of(trace, from * second, (from + 15) * second) <= objectiveMs, `from ${from} s`);
  }
  assert.ok(trace.rungAt(30 * second) >= 4);
});

test('a chip that gets hot and cools down again', () => {
  const hot = between(1, 1.9, 15 * second, 40 * second);
  const heated = plant({
    serviceMs: (rung, now) => serviceMs(rung) * hot(now),
    rate: () => 60,
    untilMs: 90 * second,
  });
  const [held, missed] = [simulate(heated), simulate({ ...heated, controlled: false })];
  assert.ok(p95Of(held, 15 * second, 40 * second) <= objectiveMs);
  assert.ok(p95Of(missed, 15 * second, 40 * second) > 10 * objectiveMs);
  assert.ok(held.rungAt(39 * second) >= 4);
  assert.ok(Math.min(...[60, 70, 80, 89].map((at) => held.rungAt(at * second))) <= 3);
});

test('clients that wait for their answers: as many as the objective allows run at a lower budget', () => {
  const trace = simulate(plant({ rate: () => 0, clients: between(4, 8, 0, 20 * second), untilMs: 50 * second }));
  assert.ok(p95Of(trace, second, 20 * second) <= objectiveMs);
  assert.ok(trace.rungAt(19 * second) > 0);
  assert.ok(trace.rungAt(50 * second) < trace.rungAt(19 * second), 'four clients need less than eight');
  assert.ok(turnsOf(trace) <= 2);
});

test('a load that no budget bears: the ceiling, at once and for good, though calls are refused', () => {
  const trace = simulate(plant({ rate: () => 400, limit: 64, untilMs: 30 * second }));
  assert.equal(trace.rungAt(second), rungs - 1);
  assert.equal(turnsOf(trace), 0);
});

test('silence after a load that no budget bears: back to the default', () => {
  const trace = simulate(plant({ rate: between(0, 400, 0, 10 * second), limit: 64, untilMs: 40 * second }));
  assert.equal(trace.rungAt(9 * second), rungs - 1);
  assert.equal(trace.rungAt(40 * second), 0);
});

test('calls that name their own budget are not moved, and count', () => {
  // Half of the calls never get cheaper: the other half has to make up for them.
  const trace = simulate(plant({ rate: between(50, 110, 10 * second, 40 * second), own: 0.3 }));
  assert.ok(p95Of(trace, 12 * second, 40 * second) <= objectiveMs);
  assert.ok(trace.rungAt(39 * second) >= 3);
});

test('a worker that nothing asks much of is left alone', () => {
  for (const seed of [1, 2, 3]) {
    assert.equal(simulate(plant({ seed, rate: () => 10 })).changes.length, 0);
    assert.equal(simulate(plant({ seed, rate: () => 0.5 })).changes.length, 0);
  }
});

test('property: at any steady load the turns are few, whatever budgets save, calls vary and the model foretells', () => {
  const loads = fc.record({
    seed: fc.integer({ min: 1, max: 1e6 }),
    rate: fc.integer({ min: 5, max: 200 }),
    saved: fc.double({ min: 0, max: 0.8, noNaN: true }),
    foretold: fc.double({ min: 0.1, max: 1, noNaN: true }),
    jitter: fc.double({ min: 0, max: 0.9, noNaN: true }),
  });
  fc.assert(
    fc.property(loads, ({ seed, rate, saved, foretold, jitter }) => {
      const believed = Array.from({ length: rungs }, (_, rung) => 1 - ((1 - foretold) * rung) / (rungs - 1));
      const trace = simulate(
        plant({
          seed,
          jitter,
          rate: () => rate,
          serviceMs: (rung) => 10 * (1 - (saved * rung) / (rungs - 1)),
          settings: { objectiveMs, work: believed },
          limit: 128,
          untilMs: 60 * second,
        }),
      );
      // A fall that is taken back doubles the rest: 2 + 4 + 8 + 16 + 32 s is more than a minute, two turns each.
      assert.ok(turnsOf(trace) <= 10, `${turnsOf(trace)} turns`);
      // Never down within two seconds of anything that came before.
      for (const [at, change] of trace.changes.entries()) {
        const before = trace.changes[at - 1];
        if (change.direction === 'down' && before) assert.ok(change.at - before.at >= 2 * second - 1e-6);
        assert.ok(change.to >= 0 && change.to < rungs);
      }
    }),
    { numRuns: 40, seed: 7 },
  );
});
