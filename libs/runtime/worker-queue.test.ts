import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import type { Isolation } from './carrier.js';
import type { WorkerReply, WorkerRequest } from './messages.js';
import { WorkerQueue } from './worker-queue.js';

/** A worker that answers loads and dies at the first run, one way or another. */
function dyingWorker(death: string): WorkerQueue<WorkerRequest, WorkerReply> {
  const source = `import { parentPort } from 'node:worker_threads';
    parentPort.on('message', (request) => {
      if (request.kind === 'run') { ${death} }
      else parentPort.postMessage({ kind: 'done' });
      if (request.kind === 'close') parentPort.close();
    });`;
  const entry = new URL(`data:text/javascript,${encodeURIComponent(source)}`);
  return new WorkerQueue({ entry, farewell: { kind: 'close' }, label: 'test' });
}

const folder = mkdtempSync(join(tmpdir(), 'heartwood-worker-'));
after(() => rmSync(folder, { recursive: true, force: true }));

/** A worker whose runs have no end; it takes no notice of its farewell either. */
function endlessWorker(isolation: Isolation): WorkerQueue<WorkerRequest, WorkerReply> {
  const file = join(folder, 'endless.mjs');
  writeFileSync(
    file,
    `import { parentPort } from 'node:worker_threads';
    const answer = parentPort ? (reply) => parentPort.postMessage(reply) : (reply) => process.send(reply);
    (parentPort ?? process).on('message', ({ kind }) => {
      if (kind === 'run') Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
      answer({ kind: 'done' });
    });`,
  );
  return new WorkerQueue({ entry: pathToFileURL(file), farewell: { kind: 'close' }, label: 'test', isolation });
}

const dispose = () => ({ request: { kind: 'dispose', session: 1 } as const, transfer: [] });
const run = () => ({ request: { kind: 'run', session: 1, feeds: {}, outputs: undefined } as const, transfer: [] });

for (const [manner, death, message] of [
  ['exits', 'process.exit(7)', /exited with code 7/],
  ['throws', 'throw new Error("out of luck")', /out of luck/],
] as const) {
  test(`a worker that ${manner} fails its runs, waiting ones too, with UNAVAILABLE`, async () => {
    const worker = dyingWorker(death);
    assert.equal((await worker.submit(dispose)).reply.kind, 'done');
    const doomed = [worker.submit(run), worker.submit(dispose), worker.submit(run)];
    for (const outcome of await Promise.allSettled(doomed)) {
      assert.equal(outcome.status, 'rejected');
      assert.equal(outcome.reason.code, 'UNAVAILABLE');
      assert.match(outcome.reason.message, message);
    }
    assert.equal(worker.alive, false);
    await assert.rejects(worker.submit(dispose), { code: 'UNAVAILABLE' });
    await worker.close();
  });
}

test('requests take turns, first in first out, and one that cannot be made fails alone', async () => {
  const worker = dyingWorker('');
  const order: number[] = [];
  const made: number[] = [];
  const submit = (i: number) =>
    worker
      .submit(() => {
        made.push(i);
        if (i === 2) throw new Error('cannot be made');
        return dispose();
      })
      .then(
        () => order.push(i),
        () => order.push(-i),
      );
  await Promise.all([0, 1, 2, 3, 4].map(submit));
  assert.deepEqual(made, [0, 1, 2, 3, 4]);
  assert.deepEqual([...order].sort(), [-2, 0, 1, 3, 4]);
  assert.equal(worker.pending, 0);
  await worker.close();
});

test('one that may go ahead is handed over while another is under way, unless somebody waits', async () => {
  const worker = dyingWorker('');
  const made: string[] = [];
  const submit = (name: string, ahead: boolean, priority = 0) =>
    worker.submit(
      () => {
        made.push(name);
        return dispose();
      },
      { ahead, priority: () => priority },
    );
  const early = [submit('first', false), submit('behind it', true), submit('third', true)];
  assert.deepEqual([made, worker.pending], [['first', 'behind it'], 3]);
  await Promise.all(early);
  made.length = 0;
  // A more urgent one that waits already is not overtaken, and is itself not handed over before its turn.
  const late = [submit('under way', false), submit('urgent', false, -1), submit('ahead', true)];
  assert.deepEqual(made, ['under way']);
  await Promise.all(late);
  assert.deepEqual(made, ['under way', 'urgent', 'ahead']);
  await worker.close();
});

test('what was handed over ahead is lost with its worker too', async () => {
  const worker = dyingWorker('process.exit(7)');
  const outcomes = await Promise.allSettled([worker.submit(run), worker.submit(run, { ahead: true })]);
  for (const outcome of outcomes) {
    assert.equal(outcome.status, 'rejected');
    assert.equal(outcome.reason.code, 'UNAVAILABLE');
  }
  assert.equal(worker.pending, 0);
  await worker.close();
});

for (const isolation of ['thread', 'process'] as const) {
  test(`a stop does not wait for ever for a ${isolation} whose run has no end`, async () => {
    const worker = endlessWorker(isolation);
    assert.equal((await worker.submit(dispose)).reply.kind, 'done');
    const { pid } = worker;
    const outcomes = Promise.allSettled([worker.submit(run), worker.submit(dispose)]);
    await worker.close(50);
    const [underWay, waiting] = (await outcomes) as PromiseRejectedResult[];
    assert.equal(underWay!.reason.code, 'UNAVAILABLE');
    assert.match(underWay!.reason.message, /still at work when it was closed/);
    assert.equal(waiting!.reason.code, 'CANCELLED');
    // A thread cannot be ended in the middle of a run; a process is gone by now.
    if (pid !== undefined) assert.throws(() => process.kill(pid, 0), { code: 'ESRCH' });
    await assert.rejects(worker.submit(dispose), { code: 'UNAVAILABLE' });
  });
}

test('a worker process that cannot be started is told of with UNAVAILABLE, and closes at once', async () => {
  const { execPath } = process;
  process.execPath = join(folder, 'no-such-node');
  try {
    const lost: string[] = [];
    const worker = new WorkerQueue<WorkerRequest, WorkerReply>({
      ...{ entry: pathToFileURL(join(folder, 'any.mjs')), farewell: { kind: 'close' }, label: 'test' },
      isolation: 'process',
      onLost: (reason) => lost.push(reason),
    });
    await assert.rejects(worker.submit(dispose), { code: 'UNAVAILABLE', message: /test worker failed: .*ENOENT/ });
    assert.equal(worker.alive, false);
    assert.equal(lost.length, 1);
    await worker.close();
  } finally {
    process.execPath = execPath;
  }
});
