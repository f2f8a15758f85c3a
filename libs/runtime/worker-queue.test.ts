import assert from 'node:assert/strict';
import { test } from 'node:test';
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
