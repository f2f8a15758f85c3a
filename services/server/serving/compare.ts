import type { CallContext } from 'nice-grpc';
import { HeartwoodError, invalid } from '../../../libs/errors/error.js';
import type {
  CompareRequest,
  CompareResponse,
  CompareSettings,
} from '../../../proto/gen/heartwood/serving/v1/serving.js';
import type { Catalog } from '../catalog/catalog.js';
import { readyVersions } from '../catalog/version-table.js';
import {
  asClassifier,
  asLanguageModel,
  isClassifier,
  type ServedClassifier,
  type ServedLanguageModel,
  type ServedVersion,
} from '../catalog/served-version.js';
import { checkComparison, compareLanes } from '../comparison/comparison.js';
import type { ComparisonMeter, ComparisonSettings } from '../comparison/lane.js';
import type { ComparisonHooks, ComparisonStep } from '../comparison/measure.js';
import type { ComparisonResult } from '../comparison/result.js';
import { checkBudget } from '../inference/budget.js';
import type { FeedMaker } from '../inference/feeds.js';
import { type Generation, textSourceOf } from '../inference/generation.js';
import type { Inference } from '../inference/inference.js';
import { laneOf } from './compare-lane.js';
import { progressMessage, resultMessage } from './compare-messages.js';
import { type Allowance, receiveSamples } from './compare-samples.js';
import { receiveTexts, textLaneOf, type TextWorkload, usualWorkload } from './compare-texts.js';
import { latestOf } from './latest.js';
import { incomingMessages } from './incoming.js';

export interface CompareParts {
  readonly catalog: Catalog;
  readonly inference: Inference;
  readonly generation: Generation;
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
  readonly settings: ComparisonSettings;
  /** Takes the samples. */
  receive(incoming: AsyncIterable<CompareRequest>, signal: AbortSignal): Promise<Received>;
}

/** Samples, and what they are compared by. */
interface Received {
  compare(hooks: ComparisonHooks, settings: ComparisonSettings): Promise<ComparisonResult>;
  release(): void;
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
    let held: Received | undefined;
    let mine = false;
    let running: Promise<ComparisonResult> | undefined;
    try {
      const incoming = incomingMessages(requests, { signal: either, idleMs: parts.idleMs });
      const asked = await askedOf(parts, incoming);
      held = await asked.receive(incoming, either);
      refuseIf(busy);
      const steps = latestOf<ComparisonStep>();
      busy = mine = true;
      const hooks = { signal: either, meter: parts.meter, progress: steps.push };
      running = held.compare(hooks, asked.settings);
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
async function askedOf(parts: CompareParts, incoming: AsyncIterator<CompareRequest>): Promise<Asked> {
  const first = await incoming.next();
  const asked = first.done === true ? undefined : first.value.settings;
  if (asked === undefined) throw invalid('the first message of Compare: expected settings');
  const served = versionsOf(parts.catalog, asked);
  const { batch = 1, concurrency = 1, warmup = 3, seed = 0n, confidence = 0.95 } = asked;
  const settings = { batch, concurrency, warmup, seed: Number(seed), confidence };
  // Before the samples: those cost the client most.
  checkComparison(Infinity, served.length, settings);
  const budget = asked.budget === undefined ? undefined : checkBudget(asked.budget, 'budget');
  const receive = isClassifier(served[0]!)
    ? imagesOf(parts, served.map(asClassifier), batch, budget)
    : textsOf(parts, served.map(asLanguageModel), batch, { ...workloadOf(asked), budget });
  return { settings, receive };
}

function imagesOf(
  parts: CompareParts,
  served: readonly ServedClassifier[],
  batch: number,
  budget: number | undefined,
): Asked['receive'] {
  if (batch > parts.maker.maxBatch) throw invalid(`batch: ${batch}, expected at most ${parts.maker.maxBatch}`);
  return async (incoming, signal) => {
    const held = await receiveSamples(parts, served, incoming, signal);
    const lanes = served.map((each) => laneOf(parts.inference, each, budget));
    return { release: held.release, compare: (hooks, settings) => compareLanes(lanes, held, settings, hooks) };
  };
}

function textsOf(
  parts: CompareParts,
  served: readonly ServedLanguageModel[],
  batch: number,
  workload: TextWorkload,
): Asked['receive'] {
  if (batch !== 1)
    throw invalid(`batch: ${batch}, expected 1 of a language model, which batches by itself: see concurrency`);
  return async (incoming, signal) => {
    const held = await receiveTexts(parts, served, workload, incoming, signal);
    const lanes = served.map((each) => textLaneOf(textSourceOf(parts.generation, 'comparison'), each, workload));
    return { release: held.release, compare: (hooks, settings) => compareLanes(lanes, held, settings, hooks) };
  };
}

function workloadOf({ maxTokens, promptTokens }: CompareSettings): TextWorkload {
  const workload = { ...usualWorkload, ...(maxTokens ? { maxTokens } : {}), ...(promptTokens ? { promptTokens } : {}) };
  return workload;
}

/** The versions that are named, or all that are ready; of one task. */
function versionsOf(catalog: Catalog, { model, versions }: CompareSettings): ServedVersion[] {
  const twice = versions.find((version, at) => versions.indexOf(version) !== at);
  if (twice !== undefined) throw invalid(`versions: ${twice} is named twice`);
  if (versions.length > 0) return versions.map((version) => catalog.resolve(model, String(version)));
  // What there is no version of says so here.
  const newest = catalog.resolve(model, '');
  return readyVersions(catalog).filter((served) => served.model === newest.model && served.task === newest.task);
}
