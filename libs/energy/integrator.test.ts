import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Integrator } from './integrator.js';
import { TOTAL } from './sample.js';

const watts = { unit: 'watts', total: ['a', 'b'] } as const;

test('a power that changes linearly is integrated exactly, however unevenly it is read', () => {
  const gaps = fc.array(fc.double({ min: 0.1, max: 900, noNaN: true }), { minLength: 1, maxLength: 30 });
  fc.assert(
    fc.property(gaps, fc.double({ min: 0, max: 0.01, noNaN: true }), (steps, slope) => {
      const integrator = new Integrator({ unit: 'watts', total: undefined });
      const power = (time: number) => 3 + slope * time;
      let time = 0;
      let sample = integrator.add({ time, values: { a: power(0) }, failures: {} });
      for (const step of steps) {
        time += step;
        sample = integrator.add({ time, values: { a: power(time) }, failures: {} });
      }
      const integral = (3 * time + (slope * time ** 2) / 2) / 1000;
      assert.ok(Math.abs(sample.joules['a']! - integral) <= 1e-9 * integral);
    }),
  );
});

test('a reading without a part has no total, and the next one makes up for it', () => {
  const integrator = new Integrator(watts);
  const read = (time: number, values: Record<string, number>) => integrator.add({ time, values, failures: {} });
  assert.deepEqual(read(0, { a: 1, b: 2 }), {
    time: 0,
    watts: { a: 1, b: 2, [TOTAL]: 3 },
    joules: { a: 0, b: 0, [TOTAL]: 0 },
  });
  const partial = read(100, { a: 1 });
  assert.deepEqual([partial.watts, partial.joules, partial.since], [{ a: 1 }, { a: 0.1, b: 0, [TOTAL]: 0 }, undefined]);
  const whole = read(200, { a: 1, b: 4 });
  assert.equal(whole.since, 0);
  assert.ok(Math.abs(whole.joules[TOTAL]! - 0.8) < 1e-12);
});

test('a long pause is not bridged: what was taken in it nobody knows', () => {
  const integrator = new Integrator(watts);
  const read = (time: number) => integrator.add({ time, values: { a: 5, b: 5 }, failures: {} });
  read(0);
  const after = read(1001);
  assert.deepEqual([after.joules[TOTAL], after.since, after.watts[TOTAL]], [0, undefined, 10]);
  assert.equal(read(1101).joules[TOTAL], 1);
});

test('a count bridges a pause of any length', () => {
  const integrator = new Integrator({ unit: 'joules', total: ['a'] });
  const read = (time: number, a: number) => integrator.add({ time, values: { a }, failures: {} });
  assert.deepEqual(read(0, 70), { time: 0, watts: {}, joules: { a: 0, [TOTAL]: 0 } });
  assert.deepEqual(read(5000, 80), {
    time: 5000,
    watts: { a: 2, [TOTAL]: 2 },
    joules: { a: 10, [TOTAL]: 10 },
    since: 0,
  });
});

test('energy never falls, though a current around zero is read below it', () => {
  const integrator = new Integrator(watts);
  let last = 0;
  for (const [time, a] of [0.1, -0.2, -0.3, 0.2].entries()) {
    const { joules } = integrator.add({ time, values: { a, b: 0 }, failures: {} });
    assert.ok(joules[TOTAL]! >= last);
    last = joules[TOTAL]!;
  }
});

test('a rail is named when it has failed three times, and when it is back', () => {
  const said: string[] = [];
  const integrator = new Integrator(watts, (line) => said.push(line));
  for (let time = 0; time < 5; time++) integrator.add({ time, values: { a: 1 }, failures: { b: 'EIO' } });
  assert.deepEqual(said, ['rail b cannot be read and is left out until it can: EIO']);
  integrator.add({ time: 5, values: { a: 1, b: 1 }, failures: {} });
  assert.equal(said[1], 'rail b can be read again');
});
