/** Between what a comparison comes to and its messages, both ways. */
import { internal } from '../../../libs/errors/error.js';
import {
  type ComparedText,
  type ComparedVersion,
  type CompareDifference,
  type CompareProgress,
  type CompareResult,
  DifferenceKind,
} from '../../../proto/gen/heartwood/serving/v1/serving.js';
import type { ComparisonStep } from '../comparison/measure.js';
import {
  type ComparisonResult,
  type Difference,
  type DifferenceKind as Kind,
  type Measure,
  measures,
  type TextComparison,
  type VersionComparison,
} from '../comparison/result.js';

const kinds: Readonly<Record<Kind, DifferenceKind>> = {
  ratio: DifferenceKind.DIFFERENCE_KIND_RATIO,
  difference: DifferenceKind.DIFFERENCE_KIND_DIFFERENCE,
  against: DifferenceKind.DIFFERENCE_KIND_AGAINST,
};

export function progressMessage({ stage, done, total, unit }: ComparisonStep): CompareProgress {
  return { stage, done: BigInt(done), total: BigInt(total), unit };
}

export function resultMessage(result: ComparisonResult): CompareResult {
  return {
    ...result,
    versions: result.versions.map(versionMessage),
    samples: BigInt(result.samples),
    requests: BigInt(result.requests),
    rounds: BigInt(result.rounds),
    seed: BigInt(result.seed),
    meter: result.meter ?? undefined,
  };
}

function versionMessage({ latency, ...rest }: VersionComparison): ComparedVersion {
  return {
    version: BigInt(rest.version),
    policy: rest.policy,
    budget: rest.budget ?? undefined,
    latencyP50: latency.p50,
    latencyP95: latency.p95,
    latencyP99: latency.p99,
    latencyMean: latency.mean,
    latencyDistribution: [...latency.distribution],
    throughput: rest.throughput,
    joules: rest.joules ?? undefined,
    flops: rest.flops,
    tokensKept: [...rest.tokensKept],
    accuracy: rest.accuracy ?? undefined,
    crossEntropy: rest.crossEntropy ?? undefined,
    agreement: rest.agreement ?? undefined,
    kl: rest.kl ?? undefined,
    text: rest.text === null ? undefined : textMessage(rest.text),
    differences: measures.flatMap((measure) => {
      const difference = rest.differences?.[measure];
      return difference ? [differenceMessage(measure, difference)] : [];
    }),
  };
}

function textMessage({ firstToken, nextToken, joulesPerToken, klByPosition, ...rest }: TextComparison): ComparedText {
  return {
    ...rest,
    firstTokenP50: firstToken.p50,
    firstTokenP95: firstToken.p95,
    nextTokenP50: nextToken.p50,
    nextTokenP95: nextToken.p95,
    joulesPerToken: joulesPerToken ?? undefined,
    predictions: BigInt(rest.predictions),
    klByPosition: [...klByPosition],
  };
}

function textOf(message: ComparedText): TextComparison {
  return {
    tokens: message.tokens,
    firstToken: { p50: message.firstTokenP50, p95: message.firstTokenP95 },
    nextToken: { p50: message.nextTokenP50, p95: message.nextTokenP95 },
    tokensPerSecond: message.tokensPerSecond,
    joulesPerToken: message.joulesPerToken ?? null,
    sameBeginning: message.sameBeginning,
    predictions: Number(message.predictions),
    klByPosition: message.klByPosition,
  };
}

function differenceMessage(measure: Measure, { kind, value, interval, thin }: Difference): CompareDifference {
  return { measure, kind: kinds[kind], value, low: interval?.low, high: interval?.high, thin };
}

/** The way back. Throws INTERNAL on what no server of this contract says. */
export function resultOf(message: CompareResult): ComparisonResult {
  return {
    versions: message.versions.map((version, at) => versionOf(version, at === 0)),
    samples: Number(message.samples),
    requests: Number(message.requests),
    rounds: Number(message.rounds),
    batch: message.batch,
    concurrency: message.concurrency,
    warmup: message.warmup,
    seed: Number(message.seed),
    confidence: message.confidence,
    meter: message.meter ?? null,
  };
}

function versionOf(message: ComparedVersion, first: boolean): VersionComparison {
  const { latencyP50, latencyP95, latencyP99, latencyMean, latencyDistribution } = message;
  return {
    version: Number(message.version),
    policy: message.policy,
    budget: message.budget ?? null,
    latency: {
      p50: latencyP50,
      p95: latencyP95,
      p99: latencyP99,
      mean: latencyMean,
      distribution: latencyDistribution,
    },
    throughput: message.throughput,
    joules: message.joules ?? null,
    flops: message.flops,
    tokensKept: message.tokensKept,
    accuracy: message.accuracy ?? null,
    crossEntropy: message.crossEntropy ?? null,
    agreement: message.agreement ?? null,
    kl: message.kl ?? null,
    text: message.text === undefined ? null : textOf(message.text),
    differences: first ? null : Object.fromEntries(message.differences.map(differenceOf)),
  };
}

function differenceOf({ measure, kind, value, low, high, thin }: CompareDifference): [Measure, Difference] {
  const known = measures.find((each) => each === measure);
  const said = (Object.keys(kinds) as Kind[]).find((each) => kinds[each] === kind);
  if (known === undefined || said === undefined) {
    throw internal(`the server told of a difference that is not known: ${JSON.stringify(measure.slice(0, 40))}`);
  }
  const interval = low === undefined || high === undefined ? null : { low, high };
  return [known, { kind: said, value, interval, thin }];
}
