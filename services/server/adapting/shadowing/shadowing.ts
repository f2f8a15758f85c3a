import { randomInt } from 'node:crypto';
import { messageOf } from '../../../../libs/errors/error.js';
import type { TensorValue } from '../../../../libs/runtime/tensor.js';
import type { Registry } from '../../../../libs/telemetry/metrics.js';
import type { Logger } from '../../../../libs/telemetry/log.js';
import type { Catalog, CatalogListener } from '../../catalog/catalog.js';
import { readyClassifiers, readyVersions } from '../../catalog/version-table.js';
import { BUDGET, type ServedClassifier } from '../../catalog/served-version.js';
import type { Feeds } from '../../inference/feeds.js';
import type { InferenceObserver } from '../../inference/record.js';
import type { Shadow, ShadowedCall } from '../../inference/shadow.js';
import { backgroundPriority, type InferenceResult } from '../../scheduling/scheduler.js';
import { divergences } from './divergence.js';
import { LossWatch, promisedLoss } from './loss-watch.js';
import { ShadowMetrics } from './shadow-metrics.js';

/** The output that is compared, [B, classes]. */
const LOGITS = 'logits';
/** The version that answers are compared with: the unpruned one. */
const BASELINE = 1;
/** Calls that are kept for later at a time; their feeds are copies, so this bounds their memory too. */
const mostWaiting = 8;

/** An answered call that is still to be run by version 1. */
interface Waiting {
  readonly served: ServedClassifier;
  readonly feeds: Feeds;
  readonly result: InferenceResult;
}

/**
 * Runs a share of the answered calls a second time, by version 1, and compares: what the pruned version loses on live data. A call is
 * picked at random when its feeds are ready (a copy of them is kept), and runs after its answer has gone out, one at a time, only while no
 * call of any version is under way, and at the lowest priority. Calls wait for that in a short queue; one that finds it full is dropped,
 * and counted. A run is never interrupted: a call that comes while one is under way may wait for its end.
 */
export class Shadowing implements Shadow, InferenceObserver, CatalogListener {
  readonly #waiting: Waiting[] = [];
  readonly #watches = new Map<ServedClassifier, LossWatch>();
  readonly #metrics: ShadowMetrics;
  readonly #stop = new AbortController();
  /** Calls that were picked and have not been compared yet, those that are not answered yet included. */
  #kept = 0;
  #running = false;
  #catalog: Catalog | undefined;

  /**
   * @param share of the calls, 0 to 1
   * @param random uniform in [0, 1)
   */
  constructor(
    private readonly share: number,
    registry: Registry,
    private readonly log: Logger,
    private readonly random: () => number = () => randomInt(2 ** 32) / 2 ** 32,
  ) {
    this.#metrics = new ShadowMetrics(registry, () => this.#watches);
  }

  pick(served: ServedClassifier, feeds: Feeds): ShadowedCall | undefined {
    if (served.version === BASELINE || this.#stop.signal.aborted || this.random() >= this.share) return undefined;
    const baseline = this.#baselineOf(served);
    const reason = !baseline
      ? 'unavailable'
      : !comparable(served, baseline, feeds)
        ? 'incomparable'
        : this.#kept >= mostWaiting
          ? 'dropped'
          : undefined;
    if (reason) {
      this.#metrics.picked(served, reason);
      return undefined;
    }
    this.#kept++;
    const copied = { ...feeds, tensors: copyOf(feeds.tensors) };
    return {
      outputs: [LOGITS],
      // The turn of the event loop in which the answer is handed to the transport comes first.
      answered: (result) => setImmediate(() => this.#add({ served, feeds: copied, result })),
      failed: () => void this.#kept--,
    };
  }

  /** A call has ended: perhaps it was the last one under way. */
  ended(): void {
    if (this.#waiting.length > 0) setImmediate(() => this.#next());
  }

  changed(catalog: Catalog): void {
    this.#catalog = catalog;
    const ready = new Set(readyOf(catalog));
    if (this.share === 0) return;
    for (const served of this.#watches.keys()) if (!ready.has(served)) this.#watches.delete(served);
    for (const served of ready) {
      const promised = promisedLoss(served.manifest);
      if (served.version === BASELINE || promised === undefined || this.#watches.has(served)) continue;
      this.#watches.set(served, new LossWatch(promised));
    }
  }

  /** Lets go of what waits; a run under way ends by itself. */
  stop(): void {
    this.#stop.abort();
    this.#kept -= this.#waiting.splice(0).length;
  }

  #add(call: Waiting): void {
    if (this.#stop.signal.aborted) return;
    this.#waiting.push(call);
    this.#next();
  }

  #next(): void {
    if (this.#running || !this.#idle()) return;
    const call = this.#waiting.shift();
    if (!call) return;
    this.#running = true;
    void this.#run(call).finally(() => {
      this.#running = false;
      this.#kept--;
      setImmediate(() => this.#next());
    });
  }

  /** Whether no call of any version is under way, on its way to the queue included. */
  #idle(): boolean {
    const ready = this.#catalog === undefined ? [] : readyVersions(this.#catalog);
    return ready.every(({ active, waiting, running }) => active + waiting + running === 0);
  }

  async #run({ served, feeds, result }: Waiting): Promise<void> {
    const baseline = this.#baselineOf(served);
    if (!baseline) return this.#metrics.picked(served, 'unavailable');
    try {
      const first = await baseline.hold(() =>
        baseline.scheduler.submit({
          feeds: feedsFor(baseline, feeds),
          batch: feeds.batch,
          outputs: [LOGITS],
          signal: this.#stop.signal,
          priority: backgroundPriority,
        }),
      );
      this.#compare(served, feeds, result, first);
    } catch (thrown) {
      if (this.#stop.signal.aborted) return;
      const { model, version } = served;
      this.log.debug({ model, version, reason: messageOf(thrown) }, 'a request could not be sent to version 1 too');
      this.#metrics.picked(served, 'unavailable');
    }
  }

  #compare(served: ServedClassifier, feeds: Feeds, result: InferenceResult, first: InferenceResult): void {
    const [p, q] = [first.outputs[LOGITS], result.outputs[LOGITS]];
    const found = p && q ? divergences(p, q) : undefined;
    this.#metrics.picked(served, found ? 'compared' : 'incomparable');
    if (!found) return;
    const watch = this.#watches.get(served);
    const broken = watch?.broken;
    for (const [sample, divergence] of found.entries()) {
      this.#metrics.sample(served, divergence);
      if (atDefault(served, feeds.budget?.[sample])) watch?.add(divergence.kl);
    }
    // A run that served other calls too took its time for them as well.
    const alone = result.runBatch === feeds.batch && first.runBatch === feeds.batch;
    if (alone) this.#metrics.times(served, result.computeMs, first.computeMs);
    if (watch && watch.broken !== broken) this.#tell(served, watch);
  }

  #tell({ model, version }: ServedClassifier, { broken, lowerBound, promised, samples }: LossWatch): void {
    const facts = { event: 'loss', model, version, lowerBound, promised, samples };
    if (broken) this.log.warn(facts, 'live samples break the loss that the version promised');
    else this.log.info(facts, 'live samples no longer break the loss that the version promised');
  }

  #baselineOf({ model }: ServedClassifier): ServedClassifier | undefined {
    return readyOf(this.#catalog).find((served) => served.model === model && served.version === BASELINE);
  }
}

function readyOf(catalog: Catalog | undefined): ServedClassifier[] {
  return catalog === undefined ? [] : readyClassifiers(catalog);
}

/** Whether version 1 can run the same inputs, and both answer logits. The budget governs the pruned version alone. */
function comparable(served: ServedClassifier, baseline: ServedClassifier, { tensors }: Feeds): boolean {
  const given = Object.keys(tensors).filter((name) => name !== BUDGET);
  const wanted = baseline.inputs.map(({ name }) => name).filter((name) => name !== BUDGET);
  return (
    served.answers(LOGITS) &&
    baseline.answers(LOGITS) &&
    given.length === wanted.length &&
    wanted.every((name) => given.includes(name))
  );
}

/** The feeds that version 1 takes; should it have a budget, it is to prune nothing. */
function feedsFor(baseline: ServedClassifier, { tensors, batch }: Feeds): Record<string, TensorValue> {
  const feeds = Object.fromEntries(Object.entries(tensors).filter(([name]) => name !== BUDGET));
  if (baseline.takes(BUDGET)) feeds[BUDGET] = { type: 'float32', dims: [batch, 1], data: new Float32Array(batch) };
  return feeds;
}

/** Whether a sample ran at the budget that the version's promise is of; the model holds budgets in float32. */
function atDefault({ manifest }: ServedClassifier, budget: number | undefined): boolean {
  return manifest.budget === null || budget === Math.fround(manifest.budget.default);
}

function copyOf(tensors: Feeds['tensors']): Feeds['tensors'] {
  return Object.fromEntries(
    Object.entries(tensors).map(([name, { type, dims, data }]) => [
      name,
      // Over memory of its own: a Buffer's slice would be the same memory.
      { type, dims, data: data instanceof Uint8Array ? new Uint8Array(data) : data.slice() },
    ]),
  );
}
