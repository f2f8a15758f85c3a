import { randomInt } from 'node:crypto';
import { messageOf } from '../../../../libs/errors/error.js';
import type { Registry } from '../../../../libs/telemetry/metrics.js';
import type { Logger } from '../../../../libs/telemetry/log.js';
import type { Catalog, CatalogListener } from '../../catalog/catalog.js';
import { readyVersions } from '../../catalog/version-table.js';
import {
  LOGITS,
  type ServedClassifier,
  type ServedLanguageModel,
  type ServedVersion,
} from '../../catalog/served-version.js';
import type { Feeds } from '../../inference/feeds.js';
import type { InferenceObserver } from '../../inference/record.js';
import type { Shadow, ShadowedCall, ShadowedText } from '../../inference/shadow.js';
import { LossWatch, promisedLoss } from './loss-watch.js';
import type { ShadowComparison } from './shadow-comparison.js';
import { ShadowMetrics } from './shadow-metrics.js';
import { ShadowQueue } from './shadow-queue.js';
import { compareSamples, copyOf, sameInputs } from './shadowed-samples.js';
import { compareTexts, sameTokens, type TextTurns } from './shadowed-texts.js';

/** The version that answers are compared with: the unpruned one. */
const BASELINE = 1;

export interface ShadowingSettings {
  /** Of the calls, 0 to 1. */
  readonly share: number;
  /** Does work whose energy is nobody's. */
  readonly beside?: TextTurns['beside'];
  /** Uniform in [0, 1). */
  readonly random?: () => number;
}

/**
 * Runs a share of the answered calls a second time, by version 1, and compares: what the pruned version loses on live data. A call is
 * picked at random, and runs after its answer has gone out, one at a time, only while no call of any version is under way, and at the lowest
 * priority. Calls wait for that in a short queue (`shadow-queue.ts`); one that finds it full is dropped, and counted. A run is never interrupted: a
 * call that comes while one is under way may wait for its end. What is run and compared is in `shadowed-samples.ts` and `shadowed-texts.ts`.
 */
export class Shadowing implements Shadow, InferenceObserver, CatalogListener {
  readonly #queue = new ShadowQueue(() => this.#idle());
  readonly #watches = new Map<ServedVersion, LossWatch>();
  readonly #metrics: ShadowMetrics;
  readonly #stop = new AbortController();
  readonly #share: number;
  readonly #random: () => number;
  readonly #turns: TextTurns;
  #catalog: Catalog | undefined;

  constructor(
    { share, beside = (work) => work(), random = () => randomInt(2 ** 32) / 2 ** 32 }: ShadowingSettings,
    registry: Registry,
    private readonly log: Logger,
  ) {
    this.#share = share;
    this.#random = random;
    this.#turns = { signal: this.#stop.signal, turn: () => this.#queue.turn(), beside };
    this.#metrics = new ShadowMetrics(registry, () => this.#watches);
  }

  pick(served: ServedClassifier, feeds: Feeds): ShadowedCall | undefined {
    if (!this.#draws(served) || !this.#enters(served, (baseline) => sameInputs(served, baseline, feeds)))
      return undefined;
    const kept = copyOf(feeds);
    const { signal } = this.#stop;
    return {
      outputs: [LOGITS],
      answered: (result) => this.#add(served, (baseline) => compareSamples(served, baseline, kept, result, signal)),
      failed: () => this.#queue.leave(),
    };
  }

  pickText(served: ServedLanguageModel): ShadowedText | undefined {
    if (!this.#draws(served)) return undefined;
    return {
      answered: (text) => {
        if (!this.#enters(served, (baseline) => sameTokens(served, baseline))) return;
        this.#add(served, (baseline) => compareTexts(served, baseline, text, this.#turns));
      },
    };
  }

  /** A call has ended: perhaps it was the last one under way. */
  ended(): void {
    setImmediate(() => this.#queue.look());
  }

  changed(catalog: Catalog): void {
    this.#catalog = catalog;
    const ready = new Set(readyVersions(catalog));
    if (this.#share === 0) return;
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
    this.#queue.stop();
  }

  #draws({ version }: ServedVersion): boolean {
    return version !== BASELINE && !this.#stop.signal.aborted && this.#random() < this.#share;
  }

  /** Takes a place in the queue for a call that was picked, or counts why there is none for it. */
  #enters(served: ServedVersion, comparable: (baseline: ServedVersion) => boolean): boolean {
    const baseline = this.#baselineOf(served);
    const reason = !baseline
      ? 'unavailable'
      : !comparable(baseline)
        ? 'incomparable'
        : !this.#queue.enter()
          ? 'dropped'
          : undefined;
    if (reason) this.#metrics.picked(served, reason);
    return reason === undefined;
  }

  /** The turn of the event loop in which the answer is handed to the transport comes first. */
  #add(served: ServedVersion, compare: (baseline: ServedVersion) => Promise<ShadowComparison | undefined>): void {
    setImmediate(() => this.#queue.add(() => this.#run(served, compare)));
  }

  /** Whether no call of any version is under way, on its way to the queue included. */
  #idle(): boolean {
    const ready = this.#catalog === undefined ? [] : readyVersions(this.#catalog);
    return ready.every(({ active, waiting, running }) => active + waiting + running === 0);
  }

  async #run(
    served: ServedVersion,
    compare: (baseline: ServedVersion) => Promise<ShadowComparison | undefined>,
  ): Promise<void> {
    const baseline = this.#baselineOf(served);
    if (!baseline) return this.#metrics.picked(served, 'unavailable');
    try {
      this.#found(served, await compare(baseline));
    } catch (thrown) {
      if (this.#stop.signal.aborted) return;
      const { model, version } = served;
      this.log.debug({ model, version, reason: messageOf(thrown) }, 'a request could not be sent to version 1 too');
      this.#metrics.picked(served, 'unavailable');
    }
  }

  #found(served: ServedVersion, found: ShadowComparison | undefined): void {
    this.#metrics.picked(served, found ? 'compared' : 'incomparable');
    if (!found) return;
    const watch = this.#watches.get(served);
    const broken = watch?.broken;
    for (const divergence of found.divergences) this.#metrics.sample(served, divergence);
    for (const sample of found.watched) watch?.add(sample);
    if (found.times) this.#metrics.times(served, found.times.servedMs, found.times.firstMs);
    if (watch && watch.broken !== broken) this.#tell(served, watch);
  }

  #tell({ model, version }: ServedVersion, { broken, lowerBound, promised, samples }: LossWatch): void {
    const facts = { event: 'loss', model, version, lowerBound, promised, samples };
    if (broken) this.log.warn(facts, 'live samples break the loss that the version promised');
    else this.log.info(facts, 'live samples no longer break the loss that the version promised');
  }

  #baselineOf({ model }: ServedVersion): ServedVersion | undefined {
    const ready = this.#catalog === undefined ? [] : readyVersions(this.#catalog);
    return ready.find((served) => served.model === model && served.version === BASELINE);
  }
}
