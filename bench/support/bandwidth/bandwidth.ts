/**
 * What this machine reads from its memory: threads that each sum a region of their own, together far larger than any cache, 128 bytes a turn
 * (reader.ts). Nothing is computed that could hold the reads up, so a product of the same bytes can come near, and not above.
 */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { bytesOfTurn, readerModule } from './reader.js';

const pageBytes = 65_536;
const regionBytes = 192 * 2 ** 20;

export interface ReadSpan {
  /** On the clock that all threads of a process share, milliseconds. */
  readonly began: number;
  readonly ended: number;
}

export interface ReaderData {
  readonly module: WebAssembly.Module;
  readonly memory: WebAssembly.Memory;
  readonly from: number;
  readonly to: number;
  /** [0]: threads that are at the start of a pass, all passes counted up. */
  readonly barrier: Int32Array;
  readonly threads: number;
}

export interface Bandwidth {
  /** The best of so many passes, GB/s (10⁹). */
  measure(passes?: number): Promise<number>;
  close(): Promise<void>;
}

/** Starts the threads. */
export async function openBandwidth(threads: number): Promise<Bandwidth> {
  const pages = Math.ceil((threads * regionBytes) / pageBytes);
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  // Pages that were never written are all one page of zeros.
  new Uint32Array(memory.buffer).forEach((_, i, all) => (all[i] = Math.imul(i, 2_654_435_761)));
  const module = new WebAssembly.Module(readerModule(pages));
  const barrier = new Int32Array(new SharedArrayBuffer(4));
  const workers = Array.from({ length: threads }, (_, i) => {
    const [from, to] = [i * regionBytes, (i + 1) * regionBytes].map((at) => at - (at % bytesOfTurn));
    const workerData: ReaderData = { module, memory, from: from!, to: to!, barrier, threads };
    return new Worker(new URL('./reader-worker.js', import.meta.url), { workerData });
  });
  await Promise.all(workers.map((worker) => once(worker, 'message')));
  return {
    async measure(passes = 8) {
      const spans = await Promise.all(
        workers.map(async (worker) => {
          const answer = once(worker, 'message');
          worker.postMessage(passes);
          return ((await answer) as [ReadSpan[]])[0];
        }),
      );
      const seconds = Array.from({ length: passes }, (_, pass) => {
        const all = spans.map((each) => each[pass]!);
        return (Math.max(...all.map(({ ended }) => ended)) - Math.min(...all.map(({ began }) => began))) / 1000;
      });
      return (threads * regionBytes) / Math.min(...seconds) / 1e9;
    },
    async close() {
      await Promise.all(workers.map((worker) => worker.terminate()));
    },
  };
}
