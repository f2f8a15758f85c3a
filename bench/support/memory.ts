/** How the memory of a server moves while it works. */
import type { ServedProcess } from './served.js';

export interface MemorySample {
  /** Minutes since the first. */
  readonly minute: number;
  /** Resident, of all of the server's processes. */
  readonly mib: number;
}

/** Asks the server's metrics every `everyMs` until it is stopped. */
export function sampleMemory(server: ServedProcess, everyMs: number): { stop(): MemorySample[] } {
  const samples: MemorySample[] = [];
  const begun = performance.now();
  const take = async (): Promise<void> => {
    const bytes = await server.metric('heartwood_process_resident_memory_bytes{');
    if (bytes !== undefined) samples.push({ minute: (performance.now() - begun) / 60_000, mib: bytes / 2 ** 20 });
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
