import type { CallContext } from 'nice-grpc';
import { HeartwoodError, invalid } from '../../../libs/errors/error.js';
import type {
  CompareRequest,
  CompareResponse,
  CompareSettings,
} from '../../../proto/gen/heartwood/serving/v1/serving.js';
import { type Catalog, readyClassifiers } from '../catalog/catalog.js';
import { asClassifier, type ServedClassifier } from '../catalog/served-version.js';
import { checkComparison, compareLanes } from '../comparison/comparison.js';
import type { ComparisonMeter, ComparisonSettings } from '../comparison/lane.js';
import type { ComparisonStep } from '../comparison/measure.js';
import type { ComparisonResult } from '../comparison/result.js';
import { budgetParameter } from '../inference/budget.js';
import type { FeedMaker } from '../inference/feeds.js';
import type { Inference } from '../inference/inference.js';
import { laneOf } from './compare-lane.js';
import { progressMessage, resultMessage } from './compare-messages.js';
import { type Allowance, receiveSamples, type HeldSamples } from './compare-samples.js';
import { latestOf } from './latest.js';
import { incomingMessages } from './incoming.js';

export interface CompareParts {
  readonly catalog: Catalog;
  readonly inference: Inference;
  readonly maker: FeedMaker;
  /** Bytes that the samples of all comparisons may hold. */
  readonly allowance: Allowance;
  readonly maxSamples: number;
  /** Milliseconds that a client may take for its next sample. */
  readonly idleMs: number;
  /** The machine's; undefined where there is none. */
  readonly meter: ComparisonMeter | undefined;
  /** Aborts when the server is about to stop. */
  readonly stopping: AbortSignal;
}

/** What was asked for, checked. */
interface Asked {
  readonly served: readonly ServedClassifier[];
  readonly settings: ComparisonSettings;
  readonly budget: number | undefined;
}

/** ServingService.Compare: one at a time, since two would measure each other. */
export function compareCall(parts: CompareParts) {
  let busy = false;
  return async function* compare(
    requests: AsyncIterable<CompareRequest>,
    { signal }: CallContext,
  ): AsyncGenerator<CompareResponse, void, undefined> {
    refuseIf(busy);
    const ending = new AbortController();
    const either = AbortSignal.any([signal, parts.stopping, ending.signal]);
    let held: HeldSamples | undefined;
    let mine = false;
    let running: Promise<ComparisonResult> | undefined;
    try {
      const incoming = incomingMessages(requests, { signal: either, idleMs: parts.idleMs });
      const asked = await askedOf(parts, incoming);
      held = await receiveSamples(parts, asked.served, incoming, either);
      refuseIf(busy);
      const lanes = asked.served.map((served) => laneOf(parts.inference, served, asked.budget));
      const steps = latestOf<ComparisonStep>();
      busy = mine = true;
      running = compareLanes(lanes, held, asked.settings, {
        signal: either,
        meter: parts.meter,
        progress: steps.push,
      });
      running.then(steps.end, steps.end);
      for await (const step of steps) yield { progress: progressMessage(step) };
      yield { result: resultMessage(await running) };
    } catch (thrown) {
      if (!parts.stopping.aborted || signal.aborted) throw thrown;
      throw new HeartwoodError('UNAVAILABLE', 'the server is stopping', { cause: thrown });
    } finally {
      // A client that went away leaves by this road alone.
      ending.abort();
      await running?.catch(() => undefined);
      if (mine) busy = false;
      held?.release();
    }
  };
}

function refuseIf(busy: boolean): void {
  if (!busy) return;
  throw new HeartwoodError(
    'RESOURCE_EXHAUSTED',
    'a comparison is under way, and two would measure each other: try again when it has ended',
  );
}

/** The first message. Throws INVALID_ARGUMENT, NOT_FOUND and UNAVAILABLE of a version. */
async function askedOf({ catalog, maker }: CompareParts, incoming: AsyncIterator<CompareRequest>): Promise<Asked> {
  const first = await incoming.next();
  const asked = first.done === true ? undefined : first.value.settings;
  if (asked === undefined) throw invalid('the first message of Compare: expected settings');
  const served = versionsOf(catalog, asked);
  const { batch = 1, concurrency = 1, warmup = 3, seed = 0n, confidence = 0.95, budget } = asked;
  const settings = { batch, concurrency, warmup, seed: Number(seed), confidence };
  // Before the samples: those cost the client most.
  checkComparison(Infinity, served.length, settings);
  if (batch > maker.maxBatch) throw invalid(`batch: ${batch}, expected at most ${maker.maxBatch}`);
  return {
    served,
    settings,
    budget: budget === undefined ? undefined : budgetParameter({ budget: { doubleParam: budget } }),
  };
}

function versionsOf(catalog: Catalog, { model, versions }: CompareSettings): ServedClassifier[] {
  const twice = versions.find((version, at) => versions.indexOf(version) !== at);
  if (twice !== undefined) throw invalid(`versions: ${twice} is named twice`);
  if (versions.length > 0) return versions.map((version) => asClassifier(catalog.resolve(model, String(version))));
  // What there is no version of says so here.
  const newest = asClassifier(catalog.resolve(model, ''));
  return readyClassifiers(catalog).filter((served) => served.model === newest.model);
}
