import type { ModelStatistics, StatisticDuration } from '../../../proto/gen/open_inference_grpc.js';
import type { ServedVersion } from '../catalog/served-version.js';
import type { InferenceObserver, InferenceRecord, Phase } from '../inference/record.js';
import type { Execution } from '../scheduling/scheduler.js';

/** A count of events and the milliseconds that they took in all. */
class Total {
  #count = 0;
  #ms = 0;

  add(ms = 0): void {
    this.#count++;
    this.#ms += ms;
  }

  get message(): StatisticDuration {
    return { count: BigInt(this.#count), ns: BigInt(Math.round(this.#ms * 1e6)) };
  }
}

/** What the protocol calls the parts of a request's time. */
const parts = {
  queue: 'queue',
  computeInput: 'preprocess',
  computeInfer: 'compute',
  computeOutput: 'postprocess',
} as const;
type Part = keyof typeof parts;

/** Of the executions of one batch size. */
type OfBatch = Record<Exclude<Part, 'queue'>, Total>;

class VersionStatistics {
  readonly success = new Total();
  readonly fail = new Total();
  readonly parts = totals('queue', 'computeInput', 'computeInfer', 'computeOutput');
  readonly batches = new Map<number, OfBatch>();
  readonly #executions = new WeakSet<Execution>();
  samples = 0;
  executions = 0;
  last = 0;

  /** Whether it is the first of its calls to be counted. */
  isNew(execution: Execution): boolean {
    if (this.#executions.has(execution)) return false;
    this.#executions.add(execution);
    return true;
  }

  ofBatch(size: number): OfBatch {
    const batch = this.batches.get(size) ?? totals('computeInput', 'computeInfer', 'computeOutput');
    this.batches.set(size, batch);
    return batch;
  }
}

function totals<P extends Part>(...names: P[]): Record<P, Total> {
  return Object.fromEntries(names.map((name) => [name, new Total()])) as Record<P, Total>;
}

/**
 * The protocol's statistics of the versions that are loaded. They begin anew when a version is loaded anew. Requests that were refused
 * before their version was known are in none of them; durations of the parts are of requests that succeeded.
 */
export class InferenceStatistics implements InferenceObserver {
  readonly #versions = new WeakMap<ServedVersion, VersionStatistics>();

  /** @param now milliseconds since the epoch */
  constructor(private readonly now: () => number = Date.now) {}

  ended({ version, outcome, phases, run, text }: InferenceRecord): void {
    if (version === undefined) return;
    const statistics = this.#of(version);
    statistics.last = this.now();
    if (outcome !== 'OK' || (run ?? text) === undefined) return statistics.fail.add(phases.total);
    statistics.success.add(phases.total);
    if (run === undefined) {
      // A text is one execution, as a backend that batches by itself counts them.
      statistics.samples++;
      statistics.executions++;
      statistics.parts.queue.add(phases.queue);
      return;
    }
    statistics.samples += run.batch;
    for (const [part, phase] of Object.entries(parts)) statistics.parts[part as Part].add(phases[phase]);
    if (!statistics.isNew(run.execution)) return;
    statistics.executions++;
    const batch = statistics.ofBatch(run.runBatch);
    for (const [part, total] of Object.entries(batch)) total.add(phases[parts[part as Part] satisfies Phase]);
  }

  /** As the protocol says it; zeros for a version that was not asked yet. */
  of(version: ServedVersion): ModelStatistics {
    const statistics = this.#of(version);
    const { queue, computeInput, computeInfer, computeOutput } = statistics.parts;
    const none = { count: 0n, ns: 0n };
    return {
      name: version.model,
      version: String(version.version),
      lastInference: BigInt(statistics.last),
      inferenceCount: BigInt(statistics.samples),
      executionCount: BigInt(statistics.executions),
      inferenceStats: {
        success: statistics.success.message,
        fail: statistics.fail.message,
        queue: queue.message,
        computeInput: computeInput.message,
        computeInfer: computeInfer.message,
        computeOutput: computeOutput.message,
        cacheHit: none,
        cacheMiss: none,
      },
      batchStats: [...statistics.batches]
        .sort(([a], [b]) => a - b)
        .map(([size, batch]) => ({
          batchSize: BigInt(size),
          computeInput: batch.computeInput.message,
          computeInfer: batch.computeInfer.message,
          computeOutput: batch.computeOutput.message,
        })),
      memoryUsage: [],
    };
  }

  #of(version: ServedVersion): VersionStatistics {
    const statistics = this.#versions.get(version) ?? new VersionStatistics();
    this.#versions.set(version, statistics);
    return statistics;
  }
}
