import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { identityModel, powerModel } from './fixture-model.js';
import type { SessionSettings } from './messages.js';
import { createRuntime } from './runtime.js';
import { Slot, type WorkerRestart } from './slot.js';
import type { TensorValue } from './tensor.js';

const settings: SessionSettings = {
  optimization: 'all',
  prepacking: true,
  provider: 'cpu',
  profile: undefined,
  threads: 1,
  spinning: false,
};
const source = (id: number) => ({ id, model: `model ${id}`, settings });
const run = (session: number) => () => ({
  request: { kind: 'run', session, feeds: {}, outputs: undefined } as const,
  transfer: [],
});

/**
 * A slot whose threads really die: of every run of session 1, of the load of session 2, of nothing else.
 */
function mortalSlot(restarts: WorkerRestart[]): Slot {
  const script = `import { parentPort } from 'node:worker_threads';
    parentPort.on('message', ({ kind, session }) => {
      if (kind === 'run' && session === 1) process.exit(9);
      if (kind === 'load' && session === 2) process.exit(8);
      if (kind === 'load') parentPort.postMessage({ kind: 'loaded', inputs: [], outputs: [] });
      else if (kind === 'run') parentPort.postMessage({ kind: 'result', outputs: {}, durationMs: session });
      else parentPort.postMessage({ kind: 'done' });
      if (kind === 'close') parentPort.close();
    });`;
  const entry = new URL(`data:text/javascript,${encodeURIComponent(script)}`);
  return new Slot(0, 'thread', (restart) => restarts.push(restart), entry);
}

test('a worker that dies of a run is replaced, and the sessions of the others go on', async () => {
  const restarts: WorkerRestart[] = [];
  const slot = mortalSlot(restarts);
  await slot.load(source(1));
  await slot.load(source(3));
  const doomed = slot.submit(1, run(1), {});
  const behind = slot.submit(3, run(3), {});
  await assert.rejects(doomed, { code: 'UNAVAILABLE', message: /exited with code 9/ });
  await assert.rejects(behind, { code: 'UNAVAILABLE' });
  const { reply } = await slot.submit(3, run(3), {});
  assert.deepEqual(reply, { kind: 'result', outputs: {}, durationMs: 3 });
  assert.deepEqual(
    restarts.map(({ worker, sessions }) => ({ worker, sessions })),
    [{ worker: 0, sessions: 2 }],
  );
  await slot.close();
});

test('a process that does not come to an end with a run or a load is ended, and the others go on', async () => {
  const script = `const forEver = () => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  process.on('message', ({ kind, session }) => {
    if (kind === 'run' && session === 1) forEver();
    if (kind === 'load' && session === 2) forEver();
    if (kind === 'load') process.send({ kind: 'loaded', inputs: [], outputs: [] });
    else if (kind === 'run') process.send({ kind: 'result', outputs: {}, durationMs: session });
    else process.send({ kind: 'done' }, () => kind === 'close' && process.disconnect());
  });`;
  const folder = mkdtempSync(join(tmpdir(), 'heartwood-slot-'));
  const file = join(folder, 'endless.cjs');
  // The first request waits for the process to start, which takes its time on a machine with other work.
  const limitMs = 8000;
  writeFileSync(file, script);
  try {
    const restarts: WorkerRestart[] = [];
    const slot = new Slot(0, 'process', (restart) => restarts.push(restart), pathToFileURL(file), limitMs);
    await slot.load(source(1));
    await slot.load(source(3));
    const ended = { code: 'UNAVAILABLE', message: /took longer than 8000 ms/ };
    await assert.rejects(slot.submit(1, run(1), {}), ended);
    await assert.rejects(slot.load(source(2)), ended);
    const { reply } = await slot.submit(3, run(3), {});
    assert.equal(reply.kind, 'result');
    assert.equal(restarts.length, 2);
    await slot.close();
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test('a session whose load kills the worker is refused, once and for all, and nothing else suffers', async () => {
  const restarts: WorkerRestart[] = [];
  const slot = mortalSlot(restarts);
  await slot.load(source(3));
  const killer = slot.load(source(2));
  const innocent = slot.load(source(4));
  await assert.rejects(killer, { code: 'UNAVAILABLE', message: /exited with code 8/ });
  await innocent;
  assert.equal(slot.sessions, 2);
  assert.equal(restarts.length, 1);
  await slot.submit(3, run(3), {});
  await slot.submit(4, run(4), {});
  await slot.close();
});

test('a session that cannot be loaded again says so, and is not tried for ever', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'heartwood-slot-'));
  const [restarts, poison] = [[] as WorkerRestart[], join(folder, 'poison')];
  const script = `import { parentPort } from 'node:worker_threads';
    import { existsSync } from 'node:fs';
    parentPort.on('message', ({ kind, session, model }) => {
      if (kind === 'run' && session === 1) process.exit(9);
      if (kind === 'load' && session === 2 && existsSync(model)) process.exit(8);
      if (kind === 'load') parentPort.postMessage({ kind: 'loaded', inputs: [], outputs: [] });
      else parentPort.postMessage({ kind: 'done' });
      if (kind === 'close') parentPort.close();
    });`;
  const entry = new URL(`data:text/javascript,${encodeURIComponent(script)}`);
  const slot = new Slot(0, 'thread', (restart) => restarts.push(restart), entry);
  try {
    const broken: number[] = [];
    for (const id of [1, 2, 3]) await slot.load({ id, model: poison, settings }, () => broken.push(id));
    writeFileSync(poison, '');
    await assert.rejects(slot.submit(1, run(1), {}), { code: 'UNAVAILABLE' });
    // Whether it waits for the new worker's loads or is lost with it, a call of another session soon goes through.
    const again = (): Promise<unknown> => slot.submit(3, run(3), {}).catch(again);
    await again();
    assert.deepEqual(broken, [2]);
    await assert.rejects(slot.submit(2, run(2), {}), { code: 'UNAVAILABLE', message: /loaded again: .*code 8/ });
    assert.deepEqual(
      restarts.map(({ sessions }) => sessions),
      [3, 3, 3, 2],
    );
  } finally {
    await slot.close();
    rmSync(folder, { recursive: true });
  }
});

for (const isolation of ['thread', 'process'] as const) {
  test(`tensors make the round trip through a worker that is a ${isolation}`, async () => {
    const runtime = createRuntime({ workers: 2, threads: 1, isolation });
    const session = await runtime.load(identityModel([{ name: 'x', type: 'float32', shape: ['N'] }]), { instances: 2 });
    assert.equal(session.instances, 2);
    assert.equal(runtime.processes().size, isolation === 'process' ? 2 : 0);
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, i) => {
        const x: TensorValue = { type: 'float32', dims: [2], data: Float32Array.of(i, NaN) };
        return session.runLate(() => ({ feeds: { x }, transfer: true }));
      }),
    );
    for (const [i, { outputs }] of answers.entries()) assert.deepEqual(outputs['x_out']?.data, Float32Array.of(i, NaN));
    await session.dispose();
    await runtime.close();
  });
}

test('a worker process that is killed in a run is replaced, and the run may be tried again', async () => {
  const restarts: WorkerRestart[] = [];
  const runtime = createRuntime({
    threads: 1,
    isolation: 'process',
    onRestart: (restart) => restarts.push(restart),
  });
  const session = await runtime.load(powerModel(512, 60));
  const x: TensorValue = { type: 'float32', dims: [512, 512], data: new Float32Array(512 * 512) };
  const [pid] = runtime.processes().values();
  const killed = session.runLate(() => {
    // Stopped before it gets the run, it cannot come to its end however late the kill is.
    process.kill(pid!, 'SIGSTOP');
    setImmediate(() => process.kill(pid!, 'SIGKILL'));
    return { feeds: { x } };
  });
  await assert.rejects(killed, { code: 'UNAVAILABLE', message: /was killed by SIGKILL/ });
  const { y } = await session.run({ x });
  assert.equal(y?.data.length, 512 * 512);
  assert.notEqual([...runtime.processes().values()][0], pid);
  assert.deepEqual(
    restarts.map(({ sessions }) => sessions),
    [1],
  );
  await runtime.close();
});

test('of what waits for a worker the least priority goes first, asked when its turn comes', async () => {
  const runtime = createRuntime({ threads: 1 });
  const session = await runtime.load(powerModel(256, 30));
  const x: TensorValue = { type: 'float32', dims: [256, 256], data: new Float32Array(256 * 256) };
  const order: string[] = [];
  const priorities = { late: 9, urgent: 5 };
  const begin = (name: string, priority: () => number) =>
    session.runLate(() => (order.push(name), { feeds: { x } }), { priority });
  const runs = [
    begin('first', () => 7),
    begin('late', () => priorities.late),
    begin('usual', () => 3),
    begin('urgent', () => priorities.urgent),
  ];
  priorities.urgent = 1;
  await Promise.all(runs);
  assert.deepEqual(order, ['first', 'urgent', 'usual', 'late']);
  await runtime.close();
});
