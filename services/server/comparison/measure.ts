import { argmax, klDivergence, logSoftmax } from '../../../libs/pruning/measure/divergence.js';
import { joulesBetween } from '../../../libs/energy/meter.js';
import { internal, invalid } from '../../../libs/errors/error.js';
import type {
  ClassAnswer,
  ComparisonMeter,
  ComparisonSettings,
  Lane,
  LaneAnswer,
  SampleBatch,
  SampleSource,
  TextAnswer,
} from './lane.js';
import { predict } from './predictions.js';
import { requestsInRound, roundsOf } from './schedule.js';

/** What was measured of one version; nothing of it is summed up yet. */
export interface LaneMeasurements {
  readonly version: number;
  readonly policy: string;
  /** Milliseconds of each request, and the round that it was in. */
  readonly latencies: number[];
  readonly rounds: number[];
  /** Of each request that was a text: milliseconds to its first token, and of each one after (NaN where there was none). */
  readonly firstToken: number[];
  readonly nextToken: number[];
  /** Generated in all. */
  generated: number;
  /** Of each round: milliseconds from its first request to its last answer, and joules; NaN where they are not known. */
  readonly roundMs: number[];
  readonly roundJoules: number[];
  /** Samples of each round, which all versions share. */
  readonly roundSamples: number[];
  /**
   * Of each sample. `correct` and `agrees` (with the first version) are 0 or 1; `crossEntropy` and `kl` (to it) in nats. Of a text `agrees` and
   * `kl` are sums over its predictions, and `sameBeginning` is the share of its tokens until it parts from the first version's.
   */
  readonly flops: Float64Array;
  readonly correct: Uint8Array;
  readonly crossEntropy: Float64Array;
  readonly agrees: Float64Array;
  readonly kl: Float64Array;
  readonly sameBeginning: Float64Array;
  /** KL by the place of the prediction behind the prompt, summed over the texts. */
  readonly klAt: number[];
  /** Summed over the samples, by stage. */
  readonly tokensKept: number[];
  /** Nats summed over the samples; undefined where the version has no budget. */
  budget: number | undefined;
}

export interface Measurements {
  readonly lanes: readonly LaneMeasurements[];
  readonly samples: number;
  readonly labelled: boolean;
  /** Whether the answers are texts. */
  readonly texts: boolean;
  /** Of each sample, those that `agrees` and `kl` are sums over: one of an image; of a text the tokens behind its prompt that were foretold. */
  readonly predictions: Float64Array;
  /** Texts that have a prediction in each place behind the prompt. */
  readonly predictionsAt: readonly number[];
  readonly meter: string | undefined;
}

export interface ComparisonStep {
  readonly stage: 'warm-up' | 'compare' | 'predict';
  readonly done: number;
  readonly total: number;
  readonly unit: 'requests' | 'samples';
}

export interface ComparisonHooks {
  readonly signal: AbortSignal;
  readonly meter?: ComparisonMeter | undefined;
  progress?(step: ComparisonStep): void;
}

/**
 * Runs every version on the same samples, interleaved (see `roundsOf`), with `concurrency` requests to one version under way at a time.
 * A request that fails ends the comparison with its error once those beside it have ended; so does `signal`.
 */
export async function measureLanes<Batch extends SampleBatch>(
  lanes: readonly Lane<Batch>[],
  source: SampleSource<Batch>,
  settings: ComparisonSettings,
  { signal, meter, progress = () => undefined }: ComparisonHooks,
): Promise<Measurements> {
  const { batch, concurrency, seed } = settings;
  const requests = Math.floor(source.size / batch);
  const samples = requests * batch;
  const run = runSignals(signal);
  const requestMs = await warmUp(lanes, source, settings, run, progress);
  const inRound = requestsInRound({ requests, concurrency, metered: meter !== undefined, requestMs });
  const plan = roundsOf({ samples, batch, lanes: lanes.length, seed, requestsInRound: inRound });
  const measured = lanes.map(({ version, policy }) => emptyMeasurements(version, policy, samples));
  const joules = lanes.map((): Promise<number | undefined>[] => []);
  for (const [round, { requests: parts, order }] of plan.entries()) {
    const batches = await Promise.all(parts.map((part) => source.read(part)));
    const answers: LaneAnswer[][] = [];
    for (const at of order) {
      const [before, began] = [meter?.joules(), performance.now()];
      const turn = await takeTurn(lanes[at]!, batches, concurrency, run);
      const into = measured[at]!;
      into.roundMs.push(performance.now() - began);
      joules[at]!.push(joulesBetween(before, meter?.joules()));
      into.roundSamples.push(parts.length * batch);
      into.latencies.push(...turn.latencies);
      into.rounds.push(...turn.latencies.map(() => round));
      answers[at] = turn.answers;
    }
    for (const [request, part] of parts.entries()) {
      const ofLanes = answers.map((list) => list[request]!);
      tally(measured, ofLanes, part, batches[request]!.labels);
    }
    const done = parts.at(-1)!.at(-1)! + 1;
    progress({ stage: 'compare', done, total: samples, unit: 'samples' });
  }
  // A reading is known with the meter's next sample: nobody waited for it in between.
  for (const [at, into] of measured.entries()) {
    for (const known of await Promise.all(joules[at]!)) into.roundJoules.push(known ?? NaN);
  }
  const texts = measured[0]!.firstToken.length > 0;
  const found = { lanes: measured, samples, labelled: source.labelled && !texts, texts, meter: meter?.name };
  if (!texts) return { ...found, predictions: new Float64Array(samples).fill(1), predictionsAt: [] };
  return { ...found, ...(await predict(lanes, measured, source, samples, signal, progress)) };
}

/** What ends a run: whoever wanted it, or a request of it that failed, which cancels those beside it. */
interface RunSignals {
  readonly outer: AbortSignal;
  readonly failed: AbortController;
  readonly either: AbortSignal;
}

function runSignals(outer: AbortSignal): RunSignals {
  const failed = new AbortController();
  return { outer, failed, either: AbortSignal.any([outer, failed.signal]) };
}

/** Answers, and latencies in milliseconds, both in the order of the batches. */
interface Turn {
  readonly answers: LaneAnswer[];
  readonly latencies: number[];
}

/** One version's turn: `concurrency` callers, each of which asks again as soon as it has its answer. */
async function takeTurn<Batch extends SampleBatch>(
  lane: Lane<Batch>,
  batches: readonly Batch[],
  concurrency: number,
  { outer, failed, either }: RunSignals,
): Promise<Turn> {
  const answers: LaneAnswer[] = [];
  const latencies: number[] = [];
  let failure: { error: unknown } | undefined;
  let next = 0;
  const caller = async (): Promise<void> => {
    while (next < batches.length && !either.aborted) {
      const at = next++;
      const sent = performance.now();
      try {
        answers[at] = await lane.answer(batches[at]!, either);
        latencies[at] = performance.now() - sent;
      } catch (error) {
        failure ??= { error };
        failed.abort();
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(concurrency, batches.length) }, caller));
  outer.throwIfAborted();
  if (failure) throw failure.error;
  return { answers, latencies };
}

/** Milliseconds of a request of the fastest version; Infinity without a warm-up. */
async function warmUp<Batch extends SampleBatch>(
  lanes: readonly Lane<Batch>[],
  source: SampleSource<Batch>,
  { batch, concurrency, warmup }: ComparisonSettings,
  run: RunSignals,
  progress: (step: ComparisonStep) => void,
): Promise<number> {
  const requests = Math.floor(source.size / batch);
  const fastest = lanes.map(() => Infinity);
  for (let from = 0; from < warmup; from += concurrency) {
    const parts = Array.from({ length: Math.min(concurrency, warmup - from) }, (_, i) =>
      Array.from({ length: batch }, (_, sample) => ((from + i) % requests) * batch + sample),
    );
    const batches = await Promise.all(parts.map((part) => source.read(part)));
    for (const [at, lane] of lanes.entries()) {
      const { latencies } = await takeTurn(lane, batches, concurrency, run);
      fastest[at] = Math.min(fastest[at]!, ...latencies);
    }
    progress({ stage: 'warm-up', done: from + parts.length, total: warmup, unit: 'requests' });
  }
  return Math.min(...fastest);
}

function emptyMeasurements(version: number, policy: string, samples: number): LaneMeasurements {
  return {
    version,
    policy,
    latencies: [],
    rounds: [],
    firstToken: [],
    nextToken: [],
    generated: 0,
    roundMs: [],
    roundJoules: [],
    roundSamples: [],
    flops: new Float64Array(samples),
    correct: new Uint8Array(samples),
    crossEntropy: new Float64Array(samples),
    agrees: new Float64Array(samples),
    kl: new Float64Array(samples),
    sameBeginning: new Float64Array(samples),
    klAt: [],
    tokensKept: [],
    budget: undefined,
  };
}

/** Enters what the versions answered to the same request. */
function tally(
  measured: readonly LaneMeasurements[],
  answers: readonly LaneAnswer[],
  part: readonly number[],
  labels: ArrayLike<number> | undefined,
): void {
  const classes = answers.filter((answer) => 'logits' in answer);
  const texts = answers.filter((answer) => 'tokens' in answer);
  if (classes.length === answers.length) tallyClasses(measured, classes, part, labels);
  else if (texts.length === answers.length && part.length === 1) tallyTexts(measured, texts, part[0]!);
  else throw internal('answers of different kinds to one request of a comparison');
}

function tallyTexts(measured: readonly LaneMeasurements[], answers: readonly TextAnswer[], sample: number): void {
  const first = answers[0]!.tokens;
  for (const [at, into] of measured.entries()) {
    const { tokens, firstTokenMs, nextTokenMs, tokensKept, flops, budget } = answers[at]!;
    into.firstToken.push(firstTokenMs);
    into.nextToken.push(nextTokenMs ?? NaN);
    into.generated += tokens.length;
    into.flops[sample] = flops;
    const parted = tokens.findIndex((token, place) => token !== first[place]);
    into.sameBeginning[sample] = parted < 0 ? 1 : parted / tokens.length;
    addKept(into, tokensKept);
    if (budget !== undefined) into.budget = (into.budget ?? 0) + budget;
  }
}

function addKept(into: LaneMeasurements, kept: readonly number[]): void {
  kept.forEach((tokens, stage) => {
    into.tokensKept[stage] = (into.tokensKept[stage] ?? 0) + tokens;
  });
}

function tallyClasses(
  measured: readonly LaneMeasurements[],
  answers: readonly ClassAnswer[],
  part: readonly number[],
  labels: ArrayLike<number> | undefined,
): void {
  const classes = answers[0]!.classes;
  const other = answers.findIndex((answer) => answer.classes !== classes);
  if (other >= 0) {
    const { version } = measured[other]!;
    throw invalid(
      `version ${version} has ${answers[other]!.classes} classes, version ${measured[0]!.version} has ${classes}: they cannot be compared`,
    );
  }
  for (const [row, sample] of part.entries()) {
    const logs = answers.map(({ logits }) => logSoftmax(logits, row, classes));
    const first = argmax(logs[0]!);
    for (const [at, into] of measured.entries()) {
      const answer = answers[at]!;
      const best = argmax(logs[at]!);
      into.flops[sample] = answer.flops[row]!;
      into.agrees[sample] = best === first ? 1 : 0;
      into.kl[sample] = at === 0 ? 0 : klDivergence(logs[0]!, logs[at]!);
      const label = labels?.[row];
      if (label !== undefined) {
        into.correct[sample] = best === label ? 1 : 0;
        into.crossEntropy[sample] = -(logs[at]![label] ?? -Infinity);
      }
      addKept(into, answer.tokensKept[row]!);
      const budget = answer.budget?.[row];
      if (budget !== undefined) into.budget = (into.budget ?? 0) + budget;
    }
  }
}
