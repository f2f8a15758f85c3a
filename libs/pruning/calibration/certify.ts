import { HeartwoodError, internal } from '../../errors/error.js';
import { meanOf, type LossMeasures } from '../measure/measure.js';
import type { PreparedSamples } from '../measure/prepared.js';
import type { Certificate, FixedPlan } from '../plan.js';
import { flopsAt } from '../../store/segments.js';
import { interpolate, type BudgetTable } from '../stages/budget.js';
import { samplesNeeded, upperBound, upperBoundSigned } from '../statistics/bound.js';
import { rankCorrelation } from '../statistics/rank-correlation.js';
import type { NetworkMeasures, PreparedPart } from '../tasks/task.js';
import type { OpenNetwork } from './network.js';

/** A mean below this is the rounding of float32, not a loss. */
export const rounding = 1e-6;

export interface CertifyOptions {
  readonly loss: 'kl' | 'cross-entropy';
  readonly confidence: number;
  readonly seed: number;
  /** What independent samples are called, and which share of the calibration data they are: for a refusal. */
  readonly counted: { readonly samples: string; readonly share: number };
  readonly signal: AbortSignal;
  readonly progress: (done: number, total: number) => void;
}

/** What the certifying samples say of a network. */
export interface Attempt {
  /** Nats of the table's own scale, or as predicted. */
  readonly asked: number;
  /** By sample, in the budget's currency. */
  readonly loss: Float64Array;
  readonly weights: Float64Array | undefined;
  readonly certificate: Omit<Certificate, 'budget' | 'predicted'>;
}

/** What the certifying samples say of a network at some thresholds; `cost` is predicted by sample, where the network tells it. */
export type MeasureAt = (
  thresholds: readonly number[],
) => Promise<NetworkMeasures & { readonly cost?: Float64Array | undefined }>;

/** Of a classifier of images. */
export function imageMeasures(network: OpenNetwork, samples: PreparedSamples): MeasureAt {
  return async (thresholds) => {
    const losses = await network.measure(samples, thresholds);
    const flops = losses.kept.map((row) => flopsAt(network.segments, row, network.tokens));
    return { losses, flops: meanOf(flops), cost: losses.cost };
  };
}

/** Runs the certifying samples once at some thresholds, and bounds the mean loss. */
export async function attempt(
  measureAt: MeasureAt,
  asked: number,
  thresholds: readonly number[],
  options: CertifyOptions,
): Promise<Attempt> {
  const measured = await measureAt(thresholds);
  return judge(measured, asked, options, measured.cost);
}

/** The bound of the mean loss, and what else was measured. @param cost predicted by sample, where the network tells it */
export function judge(
  { losses, flops }: NetworkMeasures,
  asked: number,
  options: CertifyOptions,
  cost?: Float64Array,
): Attempt {
  const loss = lossOf(losses, options.loss);
  const { weights, kl, denseCorrect, prunedCorrect, crossEntropyRise, denseLoss, prunedLoss } = losses;
  const bounding = options.loss === 'kl' ? upperBound : upperBoundSigned;
  const { bound, mean } = bounding(loss, options.confidence, options.seed, weights);
  const average = (values: ArrayLike<number>) => meanOf(values, weights);
  return {
    asked,
    loss,
    weights,
    certificate: {
      measured: mean,
      bound,
      confidence: options.confidence,
      samples: loss.length,
      ...(weights ? { predictions: weights.reduce((sum, weight) => sum + weight, 0) } : {}),
      kl: average(kl),
      crossEntropyRise: crossEntropyRise ? average(crossEntropyRise) : null,
      ...(denseLoss && prunedLoss ? { crossEntropy: { dense: average(denseLoss), pruned: average(prunedLoss) } } : {}),
      accuracy: denseCorrect && prunedCorrect ? { dense: average(denseCorrect), pruned: average(prunedCorrect) } : null,
      flops,
      rankCorrelation: cost && new Set(cost).size > 1 ? rankCorrelation(cost, kl) : null,
    },
  };
}

function lossOf(measures: LossMeasures, loss: CertifyOptions['loss']): Float64Array {
  if (loss === 'kl') return measures.kl;
  if (!measures.crossEntropyRise)
    throw new HeartwoodError('FAILED_PRECONDITION', 'loss cross-entropy: expected data with labels');
  return measures.crossEntropyRise;
}

/**
 * Shares of the budget that are tried, the safest first. They begin low, because a loss with a heavy tail may have a bound of many
 * times its mean, and a budget that a smaller one would meet must not be refused. Under the cross-entropy the table's nats of KL are
 * another currency.
 */
const ladders = {
  kl: [0.02, 0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.7, 0.8, 0.9, 1, 1.1],
  'cross-entropy': [0.25, 0.5, 1, 2, 4],
} as const;

/**
 * Finds the greatest share of the budget whose measured bound is within it, by fixed-sequence testing: from the smallest share up, until
 * the first that fails; so the whole search errs no more often than one test does (Maurer, Hothorn & Lehmacher 1995). Throws
 * FAILED_PRECONDITION with the best budget that can be met, and the number of samples that would certify it.
 */
export async function certifyBudget(
  measureAt: MeasureAt,
  table: BudgetTable,
  budget: number,
  options: CertifyOptions,
): Promise<Attempt> {
  const ladder = ladders[options.loss];
  let passed: Attempt | undefined;
  let failed: Attempt | undefined;
  for (const [step, share] of ladder.entries()) {
    const asked = share * budget;
    const tried = await attempt(measureAt, asked, interpolate(table, asked), options);
    options.progress(step + 1, ladder.length);
    if (tried.certificate.bound > Math.max(budget, rounding)) {
      failed = tried;
      break;
    }
    passed = tried;
    // Beyond the last row of the table a greater budget changes nothing.
    if (asked >= (table.rows.at(-1)?.kl ?? Infinity) || budget === 0) break;
  }
  if (passed) return passed;
  throw refusal(failed!, budget, options);
}

/**
 * Certifies networks that have no thresholds, the safest first, by fixed-sequence testing as `certifyBudget`: the last one before the
 * first that fails. Throws as `certifyBudget`, with what the first of them would meet.
 */
export async function certifyFixed(
  part: PreparedPart,
  plans: readonly FixedPlan[],
  budget: number,
  options: CertifyOptions,
): Promise<{ readonly plan: FixedPlan; readonly attempt: Attempt }> {
  let passed: { readonly plan: FixedPlan; readonly attempt: Attempt } | undefined;
  for (const [step, plan] of plans.entries()) {
    const tried = judge(await part.measure(plan), plan.predicted, options);
    options.progress(step + 1, plans.length);
    if (tried.certificate.bound > Math.max(budget, rounding)) {
      if (passed) break;
      throw refusal(tried, budget, options);
    }
    passed = { plan, attempt: tried };
  }
  if (!passed) throw internal('there was no plan to certify');
  return passed;
}

function refusal({ loss, weights, certificate }: Attempt, budget: number, options: CertifyOptions): HeartwoodError {
  const { bound, measured, samples } = certificate;
  const { counted } = options;
  const needed =
    options.loss === 'kl' && measured < budget
      ? samplesNeeded(loss, budget, options.confidence, options.seed, weights)
      : undefined;
  return new HeartwoodError(
    'FAILED_PRECONDITION',
    `a loss budget of ${budget} nats cannot be certified: the least that was tried has a mean of ${measured.toPrecision(3)} nats on ` +
      `${samples} ${counted.samples}, with the bound ${bound.toPrecision(3)}: the best budget that can be met is about that` +
      (needed === undefined
        ? ''
        : `, or give ${Math.ceil(needed / counted.share)} calibration ${counted.samples} (${percent(counted.share)} of them certify)`),
  );
}

const percent = (share: number): string => `${Math.round(100 * share)} %`;
