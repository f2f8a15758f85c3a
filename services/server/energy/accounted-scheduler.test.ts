import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { z } from 'zod';
import { EnergyLedger } from '../../../libs/energy/ledger.js';
import { identityModel, powerModel } from '../../../libs/runtime/fixture-model.js';
import { createRuntime, type Runtime } from '../../../libs/runtime/runtime.js';
import { BatchingScheduler } from '../scheduling/batching.js';
import type { InferenceJob, Scheduler } from '../scheduling/scheduler.js';
import { schedulingSchema } from '../scheduling/settings.js';
import { accounted } from './accounted-scheduler.js';

const idleWatts = 5;
let runtime: Runtime;
let ledger: EnergyLedger;
/** Until when the ledger has been read. */
let told: number;

beforeEach(() => {
  runtime = createRuntime({ workers: 1, threads: 1 });
  ledger = new EnergyLedger();
  told = performance.now() - 1000;
  for (let left = 50; left > 0; left--) read(20, idleWatts);
});
afterEach(() => runtime.close());

function read(ms: number, watts: number): number {
  const joules = (watts * ms) / 1000;
  ledger.read({ from: told, to: (told += ms), joules });
  return joules - (idleWatts * ms) / 1000;
}

const settings = z.object(schedulingSchema).parse({});
const job = (batch: number, signal = new AbortController().signal): InferenceJob => ({
  feeds: { x: { type: 'int32', dims: [batch, 2], data: new Int32Array(2 * batch) } },
  batch,
  outputs: ['x_out'],
  signal,
});

async function identity(spent: number[]): Promise<Scheduler> {
  const session = await runtime.load(identityModel([{ name: 'x', type: 'int32', shape: ['B', 2] }]));
  return accounted(new BatchingScheduler(session, settings), ledger, (joules) => spent.push(joules));
}

test('jobs that share a run share its joules by samples, by whichever way they came', async () => {
  const spent: number[] = [];
  const scheduler = await identity(spent);
  const blocker = await runtime.load(powerModel(384, 60));
  const blocked = blocker.run({ x: { type: 'float32', dims: [384, 384], data: new Float32Array(384 * 384) } });
  const results = await Promise.all([
    scheduler.submit(job(1)),
    scheduler.admit().submit(job(3)),
    scheduler.submit(job(1)),
  ]);
  await blocked;
  assert.equal(new Set(results.map(({ execution }) => execution)).size, 1);
  const above = read(performance.now() - told, 30);
  const joules = await Promise.all(results.map(async (result) => result.joules));
  for (const [index, share] of [1, 3, 1].entries())
    assert.ok(Math.abs(joules[index]! - (above * share) / 5) < 1e-9 * above, `${joules.join()} of ${above}`);
  assert.deepEqual(spent.toSorted(), joules.toSorted());
});

test('a job that never began costs nothing, and holds nothing up', async () => {
  const scheduler = await identity([]);
  await assert.rejects(scheduler.submit(job(1, AbortSignal.abort())), { code: 'CANCELLED' });
  assert.equal(scheduler.pending, 0);
  read(performance.now() - told, 30);
  assert.ok(Math.abs(ledger.unattributed - ledger.metered) < 1e-9);
});

test('what a run took that failed is nobody’s', async () => {
  const session = await runtime.load(identityModel([{ name: 'x', type: 'int32', shape: ['B', 2] }]));
  const scheduler = accounted(new BatchingScheduler(session, settings), ledger, () => assert.fail('it was charged'));
  await session.dispose();
  await assert.rejects(scheduler.submit(job(1)), { code: 'FAILED_PRECONDITION' });
  read(performance.now() - told, 30);
  assert.ok(Math.abs(ledger.unattributed - ledger.metered) < 1e-9);
});
