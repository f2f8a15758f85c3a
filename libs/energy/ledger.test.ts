import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { EnergyLedger, type MeteredInterval } from './ledger.js';

/** Readings every `step` ms of a power given by interval. */
function intervals(from: number, to: number, step: number, watts: (from: number, to: number) => number) {
  const list: MeteredInterval[] = [];
  for (let time = from; time < to; time += step)
    list.push({ from: time, to: time + step, joules: (watts(time, time + step) * step) / 1000 });
  return list;
}

/** A ledger that has seen 400 ms of idling at 5 W, before its time 200. */
function idled(): EnergyLedger {
  const ledger = new EnergyLedger();
  for (const interval of intervals(-200, 200, 20, () => 5)) ledger.read(interval);
  return ledger;
}

const close = (actual: number | undefined, expected: number) =>
  assert.ok(actual !== undefined && Math.abs(actual - expected) < 1e-9, `${actual}, expected ${expected}`);

describe('the ledger', () => {
  it('learns what idling takes, not from what follows a run at once', async () => {
    const ledger = idled();
    close(ledger.idleWatts, 5);
    const run = { startedAt: 200, endedAt: 300, samples: 1 };
    const joules = ledger.begin(200).settle(run, 1);
    for (const interval of intervals(200, 400, 20, () => 25)) ledger.read(interval);
    // 20 W above idling for as long as it ran; the 100 ms after it are nobody's.
    close(await joules, 2);
    close(ledger.idleWatts, 5);
    close(ledger.unattributed, 2 + 0.5 + 2.5);
    close(ledger.metered, 7);
  });

  it('a load that is no run does not move what was learnt in the long run', () => {
    const ledger = new EnergyLedger();
    for (const interval of intervals(0, 6000, 20, (from) => (from < 2000 ? 30 : 5))) ledger.read(interval);
    close(ledger.idleWatts, 5);
  });

  it('shares what is above idling by compute time', async () => {
    const ledger = idled();
    const [one, other] = [ledger.begin(200), ledger.begin(210)];
    const joules = [
      one.settle({ startedAt: 200, endedAt: 240, samples: 1 }, 1),
      other.settle({ startedAt: 210, endedAt: 220, samples: 1 }, 1),
    ];
    for (const interval of intervals(200, 240, 40, () => 55)) ledger.read(interval);
    close(await joules[0], (2 * 40) / 50);
    close(await joules[1], (2 * 10) / 50);
  });

  it('a run is one, however many requests it serves; they share it by samples', async () => {
    const ledger = idled();
    const tickets = [ledger.begin(200), ledger.begin(200), ledger.begin(200)];
    const run = { startedAt: 200, endedAt: 220, samples: 8 };
    const first = tickets[0]!.settle(run, 4);
    const second = tickets[1]!.settle(run, 3);
    ledger.read({ from: 200, to: 220, joules: 0.9 });
    // The third, of one sample, went away: its part is nobody's.
    tickets[2]!.drop(220);
    ledger.advance(220);
    close(await first, 0.4);
    close(await second, 0.3);
    close(ledger.unattributed, 2 + 0.1 + 0.1);
    close(ledger.metered, ledger.attributed + ledger.unattributed);
  });

  it('a run that nobody answers for is no time to learn idling from', () => {
    const ledger = idled();
    const ticket = ledger.begin(200);
    for (const interval of intervals(200, 800, 20, () => 50)) ledger.read(interval);
    ticket.drop(800);
    for (const interval of intervals(800, 820, 20, () => 5)) ledger.read(interval);
    close(ledger.idleWatts, 5);
    close(ledger.unattributed, ledger.metered);
  });

  it('does not guess: before idling is known, over a pause, and after the end there are no joules', async () => {
    const fresh = new EnergyLedger();
    const early = fresh.begin(0).settle({ startedAt: 0, endedAt: 20, samples: 1 }, 1);
    fresh.read({ from: 0, to: 20, joules: 1 });
    assert.equal(await early, undefined);

    const ledger = idled();
    const paused = ledger.begin(200).settle({ startedAt: 200, endedAt: 1700, samples: 1 }, 1);
    ledger.read({ from: 200, to: 220, joules: 1 });
    ledger.read({ from: 1600, to: 1700, joules: 5 });
    assert.equal(await paused, undefined);

    const [waiting, open] = [ledger.begin(1700), ledger.begin(1700)];
    const never = waiting.settle({ startedAt: 1700, endedAt: 1800, samples: 1 }, 1);
    ledger.read({ from: 1700, to: 1720, joules: 1 });
    ledger.close();
    assert.equal(await never, undefined);
    assert.equal(await open.settle({ startedAt: 1700, endedAt: 1710, samples: 1 }, 1), undefined);
    close(ledger.metered, ledger.attributed + ledger.unattributed);
  });

  it('does not take for idling what goes on beside the runs', () => {
    const ledger = idled();
    const end = ledger.occupied();
    for (const interval of intervals(200, 8000, 20, () => 30)) ledger.read(interval);
    end(8000);
    close(ledger.idleWatts, 5);
    for (const interval of intervals(8000, 20_000, 20, () => 6)) ledger.read(interval);
    close(ledger.idleWatts, 6);
    // What begins and ends between two readings too.
    for (let from = 20_000; from < 40_000; from += 20) {
      ledger.occupied()(from + 10);
      ledger.read({ from, to: from + 20, joules: 0.6 });
    }
    close(ledger.idleWatts, 6);
  });

  it('holds little: a run of an hour costs resolution, not memory', async () => {
    const ledger = idled();
    const ticket = ledger.begin(200);
    for (const interval of intervals(200, 200 + 3_600_000, 20, () => 15)) ledger.read(interval);
    const joules = ticket.settle({ startedAt: 200, endedAt: 200 + 3_600_000, samples: 1 }, 1);
    ledger.read({ from: 3_600_200, to: 3_600_220, joules: 0.1 });
    const value = await joules;
    assert.ok(value !== undefined && Math.abs(value - 36_000) < 1e-6 * 36_000, String(value));
  });

  it('requests and the rest are what the meter counted, whatever happens', async () => {
    const when = fc.record({
      begin: fc.nat(3000),
      length: fc.nat(400),
      samples: fc.integer({ min: 1, max: 8 }),
      calls: fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 3 }),
      drops: fc.boolean(),
    });
    const power = fc.array(fc.double({ min: 0, max: 60, noNaN: true }), { minLength: 40, maxLength: 200 });
    await fc.assert(
      fc.asyncProperty(
        fc.array(when, { maxLength: 30 }),
        power,
        fc.integer({ min: 1, max: 40 }),
        async (runs, powers, step) => {
          const ledger = new EnergyLedger();
          const answers: Promise<number | undefined>[] = [];
          // What happens in the order of its time: runs begin and end, the meter is read.
          const events: { time: number; happen: () => void }[] = powers.map((watts, at) => ({
            time: (at + 1) * step,
            happen: () => ledger.read({ from: at * step, to: (at + 1) * step, joules: (watts * step) / 1000 }),
          }));
          for (const { begin, length, samples, calls, drops } of runs) {
            const run = { startedAt: begin, endedAt: begin + length, samples };
            for (const [index, part] of calls.entries()) {
              let ticket: ReturnType<EnergyLedger['begin']>;
              events.push({ time: begin, happen: () => (ticket = ledger.begin(begin)) });
              const end = () => {
                if (drops && index === 0) ticket.drop(run.endedAt);
                else answers.push(ticket.settle(run, part));
              };
              events.push({ time: run.endedAt, happen: end });
            }
          }
          events.sort((a, b) => a.time - b.time);
          for (const { happen } of events) happen();
          ledger.close();
          const given = (await Promise.all(answers)).reduce<number>((sum, joules) => sum + (joules ?? 0), 0);
          const tolerance = 1e-9 * (1 + ledger.metered);
          assert.ok(Math.abs(given - ledger.attributed) <= tolerance);
          assert.ok(Math.abs(ledger.attributed + ledger.unattributed - ledger.metered) <= tolerance);
          assert.ok(
            Math.abs(ledger.metered - powers.reduce((sum, watts) => sum + (watts * step) / 1000, 0)) <= tolerance,
          );
        },
      ),
    );
  });
});
