import type { Runtime } from './runtime.js';

/** The same runtime, whose sessions run on so many threads: for results that are to be another process's, bit for bit. */
export function withThreads(runtime: Runtime, threads: number): Runtime {
  return {
    threads,
    provider: runtime.provider,
    load: (model, options) => runtime.load(model, { ...options, threads }),
    processes: () => runtime.processes(),
    close: (graceMs) => runtime.close(graceMs),
  };
}
