import { readFile } from 'node:fs/promises';
import type { WorkerRestart } from '../../../libs/runtime/slot.js';
import type { Logger } from '../../../libs/telemetry/log.js';
import { Counter, Gauge, type Registry } from '../../../libs/telemetry/metrics.js';

/** Bytes of a page of memory on the machines we run on; /proc counts in them. */
const pageBytes = 4096;

/** What becomes of the workers: those that died, and the memory of each process. */
export class WorkerMetrics {
  readonly #restarts;

  /**
   * @param workers how many there are
   * @param processes the workers' process numbers, by worker; empty where they are threads
   */
  constructor(
    registry: Registry,
    private readonly log: Logger,
    workers: number,
    processes: () => ReadonlyMap<number, number>,
  ) {
    const registers = [registry];
    this.#restarts = new Counter({
      name: 'heartwood_worker_restarts_total',
      help: 'Workers that died and were replaced.',
      labelNames: ['worker'],
      registers,
    });
    // From the start, so that the first death is an increase.
    for (let worker = 0; worker < workers; worker++) this.#restarts.inc({ worker: String(worker) }, 0);
    new Gauge({
      name: 'heartwood_process_resident_memory_bytes',
      help: 'Resident memory of the server and of each worker that is a process of its own.',
      labelNames: ['process'],
      registers,
      async collect() {
        this.reset();
        this.set({ process: 'server' }, process.memoryUsage.rss());
        for (const [worker, pid] of processes()) {
          const bytes = await residentBytes(pid);
          if (bytes !== undefined) this.set({ process: `worker-${worker}` }, bytes);
        }
      },
    });
  }

  restarted({ worker, reason, sessions }: WorkerRestart): void {
    this.#restarts.inc({ worker: String(worker) });
    const what = sessions > 0 ? 'a worker died and was replaced' : 'a worker died; there is nothing to load again';
    this.log.error({ worker, reason, sessions }, what);
  }
}

/** Undefined when the process is gone. */
async function residentBytes(pid: number): Promise<number | undefined> {
  try {
    const pages = Number((await readFile(`/proc/${pid}/statm`, 'utf8')).split(' ')[1]);
    return Number.isFinite(pages) ? pages * pageBytes : undefined;
  } catch {
    return undefined;
  }
}
