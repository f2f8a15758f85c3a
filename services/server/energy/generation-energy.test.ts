import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EnergyLedger } from '../../../libs/energy/ledger.js';
import type { GenerationStep } from '../generation/observer.js';
import { GenerationEnergy } from './generation-energy.js';

/** Readings every 20 ms of a power. */
function read(ledger: EnergyLedger, from: number, to: number, watts: number): void {
  for (let time = from; time < to; time += 20) ledger.read({ from: time, to: time + 20, joules: (watts * 20) / 1000 });
}

/** A decode step of so many rows, `wasted` of which are of requests that had ended. */
function decoded(startedAt: number, endedAt: number, rows: number, wasted: number): GenerationStep {
  const execution = { startedAt, endedAt, samples: rows + wasted };
  return { kind: 'decode', rows, tokens: rows + wasted, wasted, kept: [], cachedTokens: 0, execution };
}

const close = (actual: number | undefined, expected: number) =>
  assert.ok(actual !== undefined && Math.abs(actual - expected) < 1e-9, `${actual}, expected ${expected}`);

test('the rows that an ended request has left in a run are nobody’s, and the others pay for their own', async () => {
  const ledger = new EnergyLedger();
  read(ledger, -200, 200, 5);
  const spent: number[] = [];
  const energy = new GenerationEnergy(
    ledger,
    (_, joules) => void spent.push(joules),
    () => undefined,
  );
  const meter = energy.openRequest();
  // Asked for ahead, so told of when it had begun.
  for (const step of [decoded(200, 300, 1, 1), decoded(300, 400, 0, 2)]) {
    energy.stepBegins(step.execution.startedAt);
    energy.stepped(step);
    if (step.rows > 0) meter.stepped(step);
  }
  read(ledger, 200, 600, 25);
  // 20 W above idling over 100 ms, by two rows.
  close(await meter.joules(), 1);
  assert.equal(spent.length, 1);
  close(spent[0], 1);
  close(ledger.attributed, 1);
  close(ledger.attributed + ledger.unattributed, ledger.metered);
});
