import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { z } from 'zod';
import { fixtureModel, identityModel, powerModel } from '../../../libs/runtime/fixture-model.js';
import { createRuntime, type Runtime, type Session } from '../../../libs/runtime/runtime.js';
import type { TensorValue } from '../../../libs/runtime/tensor.js';
import { BatchingScheduler } from './batching.js';
import { backgroundPriority, type InferenceJob, type InferenceResult } from './scheduler.js';
import { schedulingSchema, type SchedulingSettings } from './settings.js';

let runtime: Runtime;
let session: Session;
let blocker: Session;
beforeEach(async () => {
  runtime = createRuntime({ workers: 1, threads: 1 });
  session = await runtime.load(identityModel([{ name: 'x', type: 'int32', shape: ['B', 2] }]));
  blocker = await runtime.load(powerModel(384, 60));
});
afterEach(() => runtime.close());

function scheduler(settings: Partial<SchedulingSettings> = {}): BatchingScheduler {
  return new BatchingScheduler(session, z.object(schedulingSchema).parse(settings));
}

/** Keeps the worker busy for some tens of milliseconds: what is submitted meanwhile waits. */
function block(): Promise<unknown> {
  const x: TensorValue = { type: 'float32', dims: [384, 384], data: new Float32Array(384 * 384) };
  return blocker.run({ x });
}

const job = (value: number, batch = 1, extra: Partial<InferenceJob> = {}): InferenceJob => ({
  feeds: { x: { type: 'int32', dims: [batch, 2], data: new Int32Array(2 * batch).fill(value) } },
  batch,
  outputs: ['x_out'],
  signal: new AbortController().signal,
  ...extra,
});

const valuesOf = ({ outputs }: InferenceResult) => [...(outputs['x_out']!.data as Int32Array)];

test('jobs that wait share a run, each gets its own rows, and the run is counted once', async () => {
  const batching = scheduler();
  const blocked = block();
  const results = await Promise.all([batching.submit(job(1)), batching.submit(job(2, 3)), batching.submit(job(3))]);
  await blocked;
  assert.deepEqual(results.map(valuesOf), [
    [1, 1],
    [2, 2, 2, 2, 2, 2],
    [3, 3],
  ]);
  assert.equal(new Set(results.map(({ execution }) => execution)).size, 1);
  for (const { runBatch, queueMs, computeMs, execution } of results) {
    assert.equal(runBatch, 5);
    assert.equal(execution.samples, 5);
    assert.ok(queueMs > 0 && computeMs > 0 && execution.endedAt > execution.startedAt);
  }
  assert.equal(batching.pending, 0);
});

test('a run is as large as the setting says, or as the greatest preferred size that fits', async () => {
  const sizes = async (settings: Partial<SchedulingSettings>, jobs: number) => {
    const batching = scheduler(settings);
    const blocked = block();
    const results = await Promise.all(Array.from({ length: jobs }, (_, i) => batching.submit(job(i))));
    await blocked;
    assert.deepEqual(
      results.map(valuesOf),
      Array.from({ length: jobs }, (_, i) => [i, i]),
    );
    return [...new Set(results.map(({ execution }) => execution))].map(({ samples }) => samples);
  };
  assert.deepEqual(await sizes({ runBatch: 4 }, 10), [4, 4, 2]);
  assert.deepEqual(await sizes({ runBatch: 16, preferredBatches: [2, 6] }, 9), [6, 2, 1]);
});

test('a queue delay holds a job back for company, and no longer once enough have come', async () => {
  const patient = scheduler({ queueDelayMs: 10_000, preferredBatches: [3] });
  const first = patient.submit(job(1));
  const second = patient.submit(job(2));
  assert.equal(patient.waiting, 2);
  const third = patient.submit(job(3));
  assert.equal((await third).runBatch, 3);
  await Promise.all([first, second]);
  const brief = scheduler({ queueDelayMs: 5 });
  const alone = await brief.submit(job(4));
  assert.equal(alone.runBatch, 1);
  assert.ok(alone.queueMs >= 4.5, `waited ${alone.queueMs} ms`);
});

test('priorities go first, and the background last', async () => {
  const batching = scheduler({ runBatch: 1 });
  const blocked = block();
  const order: string[] = [];
  const submit = (name: string, priority?: number) =>
    batching.submit(job(1, 1, { priority, started: () => order.push(name) }));
  await Promise.all([
    submit('background', backgroundPriority),
    submit('usual'),
    submit('late', 500),
    submit('urgent', 1),
  ]);
  await blocked;
  assert.deepEqual(order, ['urgent', 'usual', 'late', 'background']);
});

test('beyond its limits the queue refuses at once, and what was cancelled or late leaves it unrun', async () => {
  const batching = scheduler({ queueLimit: 3 });
  const blocked = block();
  const controller = new AbortController();
  let begun = 0;
  const started = () => begun++;
  const cancelled = batching.submit(job(1, 1, { signal: controller.signal, started }));
  const late = batching.submit(job(2, 1, { deadline: performance.now() + 5, started }));
  const place = batching.admit();
  assert.throws(() => batching.admit(), { code: 'RESOURCE_EXHAUSTED', message: /queue is full: 3 requests/ });
  await assert.rejects(batching.submit(job(3)), { code: 'RESOURCE_EXHAUSTED' });
  controller.abort();
  await assert.rejects(cancelled, { code: 'CANCELLED', message: /before it began/ });
  await assert.rejects(late, { code: 'DEADLINE_EXCEEDED', message: /before it began/ });
  assert.equal(batching.waiting, 1);
  place.leave();
  place.leave();
  assert.equal(batching.waiting, 0);
  await assert.rejects(batching.submit(job(4, 1, { deadline: performance.now() - 1, started })), {
    code: 'DEADLINE_EXCEEDED',
  });
  assert.equal(valuesOf(await batching.submit(job(5)))[0], 5);
  await blocked;
  assert.equal(begun, 0);
  assert.equal(batching.pending, 0);
});

test('a deadline beyond the longest timer leaves the job in the queue, without a warning of Node', async () => {
  const warnings: Error[] = [];
  const warned = (warning: Error): void => void warnings.push(warning);
  process.on('warning', warned);
  const batching = scheduler();
  const blocked = block();
  const far = [2 ** 31 + 1e6, 2 ** 54, Infinity].map((ms) =>
    batching.submit(job(1, 1, { deadline: performance.now() + ms })),
  );
  await blocked;
  for (const result of await Promise.all(far)) assert.deepEqual(valuesOf(result), [1, 1]);
  process.off('warning', warned);
  assert.deepEqual(warnings, []);
});

test('the bytes that wait are bounded', async () => {
  const batching = scheduler({ queueBytes: 20 });
  const blocked = block();
  const first = batching.submit(job(1, 2));
  await assert.rejects(batching.submit(job(2, 2)), { code: 'RESOURCE_EXHAUSTED', message: /16 bytes/ });
  await Promise.all([first, blocked]);
});

test('feeds that do not fit the model are refused by name, before they wait', async () => {
  const wrong: TensorValue = { type: 'int32', dims: [1, 3], data: Int32Array.of(1, 2, 3) };
  await assert.rejects(scheduler().submit(job(1, 1, { feeds: { x: wrong } })), {
    code: 'INVALID_ARGUMENT',
    message: /input x has shape \[1, 3\]/,
  });
});

test('of jobs that share a run which fails, only the one that is to blame fails', async () => {
  // An index beyond the table is an error of the run.
  const value = (name: string, shape: string[]) => ({ name, type: 'float32', shape }) as const;
  const lookup = await runtime.load(
    fixtureModel(
      [{ op: 'Gather', inputs: ['table', 'x'], outputs: ['y'] }],
      [value('table', ['B', 'N']), { name: 'x', type: 'int64', shape: ['B', 'K'] }],
      [value('y', ['B', 'K', 'N'])],
    ),
  );
  const batching = new BatchingScheduler(lookup, z.object(schedulingSchema).parse({}));
  const gather = (index: bigint): InferenceJob => ({
    feeds: {
      table: { type: 'float32', dims: [1, 1], data: Float32Array.of(7) },
      x: { type: 'int64', dims: [1, 1], data: BigInt64Array.of(index) },
    },
    batch: 1,
    outputs: ['y'],
    signal: new AbortController().signal,
  });
  const blocked = block();
  const outcomes = await Promise.allSettled([0n, 99n, 0n].map((index) => batching.submit(gather(index))));
  await blocked;
  assert.deepEqual(
    outcomes.map(({ status }) => status),
    ['fulfilled', 'rejected', 'fulfilled'],
  );
  await assert.rejects(batching.submit(gather(99n)), { code: 'INTERNAL', message: /run failed/ });
});

test('the work of a worker process that is killed is done by the one that replaces it; killed twice, it fails', async () => {
  const processes = createRuntime({ workers: 1, threads: 1, isolation: 'process' });
  try {
    const slow = await processes.load(powerModel(384, 60));
    const batching = new BatchingScheduler(slow, z.object(schedulingSchema).parse({}));
    let kills = 1;
    const started = () => {
      const [pid] = processes.processes().values();
      if (kills-- <= 0) return;
      // Stopped before it gets the run, it cannot come to its end however late the kill is.
      process.kill(pid!, 'SIGSTOP');
      setImmediate(() => process.kill(pid!, 'SIGKILL'));
    };
    const x: TensorValue = { type: 'float32', dims: [384, 384], data: new Float32Array(384 * 384).fill(1e-3) };
    const heavy = () => ({ feeds: { x }, batch: 1, outputs: ['y'], signal: new AbortController().signal, started });
    const survived = await batching.submit(heavy());
    assert.equal(survived.outputs['y']?.data.length, 384 * 384);
    kills = 2;
    await assert.rejects(batching.submit(heavy()), { code: 'UNAVAILABLE', message: /was killed by SIGKILL/ });
    assert.equal((await batching.submit(heavy())).runBatch, 1);
  } finally {
    await processes.close();
  }
});

test('when no worker can take the model any more its jobs are told, and none waits for ever', async () => {
  const closing = createRuntime({ workers: 1, threads: 1 });
  const gone = await closing.load(identityModel([{ name: 'x', type: 'int32', shape: ['B', 2] }]));
  const batching = new BatchingScheduler(gone, z.object(schedulingSchema).parse({}));
  await closing.close();
  await assert.rejects(batching.submit(job(1)), { code: 'UNAVAILABLE', message: /closed/ });
  assert.equal(batching.pending, 0);
});
