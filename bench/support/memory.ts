/** How the memory of a server moves while it works. */
import type { ServedProcess } from './served.js';

export interface MemorySample {
  /** Minutes since the first. */
  readonly minute: number;
  /** Resident, of all of the server's processes. */
  readonly mib: number;
  /** Of them, what V8 has reserved for the main thread's JavaScript: objects, and code as it is compiled. */
  readonly heapMib: number;
}

const resident = 'heartwood_process_resident_memory_bytes{';
const heap = 'nodejs_heap_size_total_bytes ';

/** Asks the server's metrics every `everyMs` until it is stopped. */
export function sampleMemory(server: ServedProcess, everyMs: number): { stop(): MemorySample[] } {
  const samples: MemorySample[] = [];
  const begun = performance.now();
  const take = async (): Promise<void> => {
    const [all, script = NaN] = await server.metrics([resident, heap]);
    const minute = (performance.now() - begun) / 60_000;
    if (all !== undefined) samples.push({ minute, mib: all / 2 ** 20, heapMib: script / 2 ** 20 });
  };
  const timer = setInterval(() => void take(), everyMs);
  return {
    stop() {
      clearInterval(timer);
      return samples;
    },
  };
}

/** MiB a minute: the median of the slopes between all pairs (Theil, Sen), which a spike does not move. */
export function memorySlope(samples: readonly MemorySample[]): number {
  const slopes: number[] = [];
  for (const [i, a] of samples.entries()) {
    for (const b of samples.slice(i + 1)) if (b.minute > a.minute) slopes.push((b.mib - a.mib) / (b.minute - a.minute));
  }
  slopes.sort((x, y) => x - y);
  return slopes[slopes.length >> 1] ?? 0;
}
