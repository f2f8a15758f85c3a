import { mean, quantileOfSorted } from '../../../libs/pruning/statistics/quantiles.js';
import type { ComparisonSettings } from './lane.js';
import type { LaneMeasurements, Measurements } from './measure.js';
import {
  type ComparisonResult,
  type Difference,
  differenceKinds,
  type Measure,
  type TextComparison,
  type VersionComparison,
} from './result.js';
import {
  bootstrapIntervals,
  ClusteredValues,
  type Interval,
  pairedShareInterval,
  shareInterval,
} from './statistics.js';

const quantiles = [0.5, 0.95, 0.99] as const;
const tokenQuantiles = [0.5, 0.95] as const;
/** A quantile with fewer requests beyond it than this has an interval that is too narrow. */
const thinTail = 5;
/** Samples are resampled one by one up to so many, beyond that in as many groups, which gives the same interval for less work. */
const mostGroups = 1024;

/** The share of the requests beyond a quantile. */
const tails: Readonly<Partial<Record<Measure, number>>> = {
  latencyP50: 0.5,
  latencyP95: 0.05,
  latencyP99: 0.01,
  firstTokenP50: 0.5,
  firstTokenP95: 0.05,
  nextTokenP50: 0.5,
  nextTokenP95: 0.05,
};

type Found = Partial<Record<Measure, Interval | undefined>>;

/**
 * Sums up measurements. Intervals of times and joules resample the rounds, in which all versions had their turns side by side; those of
 * FLOPs, cross-entropy and KL the samples, which all versions answered; those of accuracy and agreement are score intervals. By the same
 * seed the same measurements give the same result, bit for bit.
 *
 * @param pause awaited every few milliseconds of work
 */
export async function summariseComparison(
  measured: Measurements,
  settings: ComparisonSettings,
  pause?: () => Promise<void>,
): Promise<ComparisonResult> {
  const { batch, concurrency, warmup, seed, confidence } = settings;
  const { lanes, samples, meter } = measured;
  const first = versionOf(lanes[0]!, measured);
  const versions = [first];
  for (const lane of lanes.slice(1)) {
    const options = { confidence, seed, ...(pause ? { pause } : {}) };
    const found: Found = {
      ...(await timeIntervals(lanes[0]!, lane, measured, options)),
      ...(measured.texts ? await tokenIntervals(lanes[0]!, lane, options) : {}),
      ...(await sampleIntervals(lanes[0]!, lane, measured, options)),
      ...scoreIntervals(lanes[0]!, lane, measured, confidence),
    };
    const plain = versionOf(lane, measured);
    versions.push({ ...plain, differences: differencesOf(first, plain, found, lane.latencies.length) });
  }
  return {
    versions,
    samples,
    requests: lanes[0]!.latencies.length,
    rounds: lanes[0]!.roundMs.length,
    batch,
    concurrency,
    warmup,
    seed,
    confidence,
    meter: meter ?? null,
  };
}

function versionOf(lane: LaneMeasurements, measured: Measurements): VersionComparison {
  const { samples, labelled, texts, meter } = measured;
  const predictions = sum(measured.predictions);
  const sorted = Float64Array.from(lane.latencies).sort();
  const [p50, p95, p99] = quantiles.map((p) => quantileOfSorted(sorted, p)) as [number, number, number];
  return {
    version: lane.version,
    policy: lane.policy,
    budget: lane.budget === undefined ? null : lane.budget / samples,
    latency: {
      p50,
      p95,
      p99,
      mean: mean(lane.latencies),
      distribution: Array.from({ length: 101 }, (_, percent) => quantileOfSorted(sorted, percent / 100)),
    },
    throughput: throughputOf(lane),
    joules: joulesOf(lane, meter),
    flops: mean(lane.flops),
    tokensKept: lane.tokensKept.map((tokens) => tokens / samples),
    accuracy: labelled ? mean(lane.correct) : null,
    crossEntropy: labelled ? mean(lane.crossEntropy) : null,
    agreement: predictions > 0 ? sum(lane.agrees) / predictions : null,
    kl: predictions > 0 ? sum(lane.kl) / predictions : null,
    text: texts ? textOf(lane, measured) : null,
    differences: null,
  };
}

function throughputOf(lane: LaneMeasurements): number {
  return (1000 * sum(lane.roundSamples)) / sum(lane.roundMs);
}

function textOf(lane: LaneMeasurements, measured: Measurements): TextComparison {
  const { samples, meter, predictions, predictionsAt } = measured;
  const at = (values: readonly number[]) => {
    const sorted = Float64Array.from(values.filter(Number.isFinite)).sort();
    const [p50, p95] = tokenQuantiles.map((p) => quantileOfSorted(sorted, p)) as [number, number];
    return { p50, p95 };
  };
  const tokens = lane.generated / samples;
  const joules = joulesOf(lane, meter);
  return {
    tokens,
    firstToken: at(lane.firstToken),
    nextToken: at(lane.nextToken),
    tokensPerSecond: throughputOf(lane) * tokens,
    joulesPerToken: joules === null ? null : joules / tokens,
    sameBeginning: mean(lane.sameBeginning),
    predictions: sum(predictions),
    klByPosition: predictionsAt.map((texts, at) => lane.klAt[at]! / texts),
  };
}

/** Per sample; null where a turn's are not known, since the rest would be of other samples. */
function joulesOf({ roundJoules, roundSamples }: LaneMeasurements, meter: string | undefined): number | null {
  const joules = sum(roundJoules) / sum(roundSamples);
  return meter === undefined || !Number.isFinite(joules) ? null : joules;
}

interface Options {
  readonly confidence: number;
  readonly seed: number;
  readonly pause?: () => Promise<void>;
}

/** Ratios of latency quantiles, throughput and joules, over draws of rounds. */
async function timeIntervals(
  first: LaneMeasurements,
  lane: LaneMeasurements,
  { meter }: Measurements,
  options: Options,
): Promise<Found> {
  const rounds = lane.roundMs.length;
  const values = [first, lane].map((each) => new ClusteredValues(each.latencies, each.rounds));
  const found = [new Float64Array(3), new Float64Array(3)];
  const evaluate = (counts: Uint32Array, out: Float64Array): void => {
    values.forEach((each, at) => each.quantiles(counts, quantiles, found[at]!));
    for (let q = 0; q < quantiles.length; q++) out[q] = found[1]![q]! / found[0]![q]!;
    // Both versions had the same samples in a round, so their ratio of samples a second is that of the times, turned over.
    out[3] = dot(counts, first.roundMs) / dot(counts, lane.roundMs);
    if (meter !== undefined) out[4] = dot(counts, lane.roundJoules) / dot(counts, first.roundJoules);
  };
  const point = new Float64Array(meter === undefined ? 4 : 5);
  evaluate(new Uint32Array(rounds).fill(1), point);
  const [latencyP50, latencyP95, latencyP99, throughput, joules] = await bootstrapIntervals(
    rounds,
    point,
    evaluate,
    options,
  );
  return { latencyP50, latencyP95, latencyP99, throughput, joules };
}

/** Ratios of the quantiles of the first and of later tokens, over draws of rounds. */
async function tokenIntervals(first: LaneMeasurements, lane: LaneMeasurements, options: Options): Promise<Found> {
  const kinds = [(each: LaneMeasurements) => each.firstToken, (each: LaneMeasurements) => each.nextToken];
  const values = kinds.map((of) =>
    [first, lane].map((each) => {
      const known = of(each).flatMap((ms, at) => (Number.isFinite(ms) ? [[ms, each.rounds[at]!] as const] : []));
      return new ClusteredValues(
        known.map(([ms]) => ms),
        known.map(([, round]) => round),
      );
    }),
  );
  const found = [new Float64Array(2), new Float64Array(2)] as const;
  const evaluate = (counts: Uint32Array, out: Float64Array): void => {
    for (const [kind, lanes] of values.entries()) {
      lanes.forEach((each, at) => each.quantiles(counts, tokenQuantiles, found[at]!));
      for (let q = 0; q < 2; q++) out[2 * kind + q] = found[1][q]! / found[0][q]!;
    }
  };
  const rounds = lane.roundMs.length;
  const point = new Float64Array(4);
  evaluate(new Uint32Array(rounds).fill(1), point);
  const [firstTokenP50, firstTokenP95, nextTokenP50, nextTokenP95] = await bootstrapIntervals(
    rounds,
    point,
    evaluate,
    options,
  );
  return { firstTokenP50, firstTokenP95, nextTokenP50, nextTokenP95 };
}

/** The ratio of FLOPs, the rise of the cross-entropy and the KL, over draws of samples. */
async function sampleIntervals(
  first: LaneMeasurements,
  lane: LaneMeasurements,
  { samples, labelled, texts, predictions }: Measurements,
  options: Options,
): Promise<Found> {
  const groups = Math.min(samples, mostGroups);
  const grouped = (value: (sample: number) => number): Float64Array => {
    const sums = new Float64Array(groups);
    for (let sample = 0; sample < samples; sample++) sums[sample % groups]! += value(sample);
    return sums;
  };
  const sizes = grouped(() => 1);
  const dense = grouped((sample) => first.flops[sample]!);
  const flops = grouped((sample) => lane.flops[sample]!);
  const predicted = grouped((sample) => predictions[sample]!);
  const kl = grouped((sample) => lane.kl[sample]!);
  const agrees = grouped((sample) => lane.agrees[sample]!);
  const same = grouped((sample) => lane.sameBeginning[sample]!);
  const rise = grouped((sample) => lane.crossEntropy[sample]! - first.crossEntropy[sample]!);
  const evaluate = (counts: Uint32Array, out: Float64Array): void => {
    const drawn = dot(counts, sizes);
    out[0] = dot(counts, flops) / dot(counts, dense);
    out[1] = dot(counts, rise) / drawn;
    out[2] = dot(counts, same) / drawn;
    // A draw of texts that have none, which is next to never made, says nothing of them.
    const predictionsDrawn = dot(counts, predicted) || 1;
    out[3] = dot(counts, kl) / predictionsDrawn;
    out[4] = dot(counts, agrees) / predictionsDrawn;
  };
  const point = new Float64Array(5);
  evaluate(new Uint32Array(groups).fill(1), point);
  const [flopsInterval, riseInterval, sameInterval, klInterval, agreeInterval] = await bootstrapIntervals(
    groups,
    point,
    evaluate,
    options,
  );
  return {
    flops: flopsInterval,
    kl: klInterval,
    ...(texts ? { agreement: agreeInterval, sameBeginning: sameInterval } : {}),
    ...(labelled ? { crossEntropy: riseInterval } : {}),
  };
}

function scoreIntervals(
  first: LaneMeasurements,
  lane: LaneMeasurements,
  { samples, labelled, texts }: Measurements,
  confidence: number,
): Found {
  let [gained, lost] = [0, 0];
  for (let sample = 0; sample < samples; sample++) {
    if (lane.correct[sample]! > first.correct[sample]!) gained++;
    if (lane.correct[sample]! < first.correct[sample]!) lost++;
  }
  return {
    // A text's predictions are not independent of each other.
    ...(texts ? {} : { agreement: shareInterval(sum(lane.agrees), samples, confidence) }),
    ...(labelled ? { accuracy: pairedShareInterval(gained, lost, samples, confidence) } : {}),
  };
}

function differencesOf(
  first: VersionComparison,
  version: VersionComparison,
  found: Found,
  requests: number,
): Partial<Record<Measure, Difference>> {
  const differences: Partial<Record<Measure, Difference>> = {};
  const enter = (measure: Measure, base: number | null, own: number | null): void => {
    if (base === null || own === null) return;
    const kind = differenceKinds[measure];
    const value = kind === 'ratio' ? own / base : kind === 'difference' ? own - base : own;
    const beyond = tails[measure];
    differences[measure] = {
      kind,
      value,
      interval: found[measure] ?? null,
      thin: beyond !== undefined && beyond * requests < thinTail,
    };
  };
  enter('latencyP50', first.latency.p50, version.latency.p50);
  enter('latencyP95', first.latency.p95, version.latency.p95);
  enter('latencyP99', first.latency.p99, version.latency.p99);
  enter('firstTokenP50', first.text?.firstToken.p50 ?? null, version.text?.firstToken.p50 ?? null);
  enter('firstTokenP95', first.text?.firstToken.p95 ?? null, version.text?.firstToken.p95 ?? null);
  enter('nextTokenP50', first.text?.nextToken.p50 ?? null, version.text?.nextToken.p50 ?? null);
  enter('nextTokenP95', first.text?.nextToken.p95 ?? null, version.text?.nextToken.p95 ?? null);
  enter('throughput', first.throughput, version.throughput);
  // A meter that did not move tells nothing of a ratio.
  if (first.joules !== 0) enter('joules', first.joules, version.joules);
  enter('flops', first.flops, version.flops);
  enter('accuracy', first.accuracy, version.accuracy);
  enter('crossEntropy', first.crossEntropy, version.crossEntropy);
  enter('agreement', first.agreement, version.agreement);
  enter('kl', first.kl, version.kl);
  enter('sameBeginning', first.text?.sameBeginning ?? null, version.text?.sameBeginning ?? null);
  return differences;
}

function sum(values: ArrayLike<number>): number {
  let total = 0;
  for (let i = 0; i < values.length; i++) total += values[i]!;
  return total;
}

function dot(counts: Uint32Array, values: ArrayLike<number>): number {
  let total = 0;
  for (let i = 0; i < counts.length; i++) total += counts[i]! * values[i]!;
  return total;
}
