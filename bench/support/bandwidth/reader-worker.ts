/** A thread that reads its region as often as it is told, in step with the others. */
import { parentPort, workerData } from 'node:worker_threads';
import type { ReaderData, ReadSpan } from './bandwidth.js';

const { module, memory, from, to, barrier, threads } = workerData as ReaderData;
const { read } = new WebAssembly.Instance(module, { m: { m: memory } }).exports as {
  read: (from: number, to: number) => number;
};
const now = (): number => performance.timeOrigin + performance.now();

/** Waits, busily, until all threads are here. */
function together(): void {
  const arrived = Atomics.add(barrier, 0, 1) + 1;
  const wanted = Math.ceil(arrived / threads) * threads;
  while (Atomics.load(barrier, 0) < wanted);
}

parentPort!.on('message', (passes: number) => {
  const spans: ReadSpan[] = [];
  for (let pass = 0; pass < passes; pass++) {
    together();
    const began = now();
    read(from, to);
    spans.push({ began, ended: now() });
  }
  parentPort!.postMessage(spans);
});
parentPort!.postMessage('ready');
