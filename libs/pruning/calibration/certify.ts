import { HeartwoodError } from '../../errors/error.js';
import { meanOf, type SampleMeasures } from '../measure/measure.js';
import type { PreparedSamples } from '../measure/prepared.js';
import type { Certificate } from '../plan.js';
import { flopsAt } from '../../store/segments.js';
import { interpolate, type BudgetTable } from '../stages/budget.js';
import { samplesNeeded, upperBound, upperBoundSigned } from '../statistics/bound.js';
import { rankCorrelation } from '../statistics/rank-correlation.js';
import type { OpenNetwork } from './network.js';

/** A mean below this is the rounding of float32, not a loss. */
export const rounding = 1e-6;

export interface CertifyOptions {
  readonly loss: 'kl' | 'cross-entropy';
  readonly confidence: number;
  readonly seed: number;
  readonly signal: AbortSignal;
  readonly progress: (done: number, total: number) => void;
}

/** What the certifying samples say of the network at one budget of the table. */
export interface Attempt {
  /** Nats of the table's own scale. */
  readonly asked: number;
  /** By sample, in the budget's currency. */
  readonly loss: Float64Array;
  readonly certificate: Omit<Certificate, 'budget' | 'predicted'>;
}

/** Runs the certifying samples once at some thresholds, and bounds the mean loss. */
export async function attempt(
  network: OpenNetwork,
  samples: PreparedSamples,
  asked: number,
  thresholds: readonly number[],
  options: CertifyOptions,
): Promise<Attempt> {
  const measures = await network.measure(samples, thresholds);
  const loss = lossOf(measures, options.loss);
  const bounding = options.loss === 'kl' ? upperBound : upperBoundSigned;
  const { bound, mean } = bounding(loss, options.confidence, options.seed);
  const flops = measures.kept.map((row) => flopsAt(network.segments, row, network.tokens));
  const { denseCorrect, prunedCorrect, crossEntropyRise, cost } = measures;
  return {
    asked,
    loss,
    certificate: {
      measured: mean,
      bound,
      confidence: options.confidence,
      samples: samples.size,
      kl: meanOf(measures.kl),
      crossEntropyRise: crossEntropyRise ? meanOf(crossEntropyRise) : null,
      accuracy: denseCorrect && prunedCorrect ? { dense: meanOf(denseCorrect), pruned: meanOf(prunedCorrect) } : null,
      flops: meanOf(flops),
      rankCorrelation: cost && new Set(cost).size > 1 ? rankCorrelation(cost, measures.kl) : null,
    },
  };
}

function lossOf(measures: SampleMeasures, loss: CertifyOptions['loss']): Float64Array {
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
  network: OpenNetwork,
  samples: PreparedSamples,
  table: BudgetTable,
  budget: number,
  options: CertifyOptions,
): Promise<Attempt> {
  const ladder = ladders[options.loss];
  let passed: Attempt | undefined;
  let failed: Attempt | undefined;
  for (const [step, share] of ladder.entries()) {
    const asked = share * budget;
    const tried = await attempt(network, samples, asked, interpolate(table, asked), options);
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

/** Certifies a network that has no thresholds: it is within the budget or it is not. Throws as `certifyBudget`. */
export async function certifyFixed(
  network: OpenNetwork,
  samples: PreparedSamples,
  predicted: number,
  budget: number,
  options: CertifyOptions,
): Promise<Attempt> {
  const tried = await attempt(network, samples, predicted, [], options);
  options.progress(1, 1);
  if (tried.certificate.bound > Math.max(budget, rounding)) throw refusal(tried, budget, options);
  return tried;
}

function refusal({ loss, certificate }: Attempt, budget: number, options: CertifyOptions): HeartwoodError {
  const { bound, measured } = certificate;
  const needed =
    options.loss === 'kl' && measured < budget ? samplesNeeded(loss, budget, options.confidence) : undefined;
  return new HeartwoodError(
    'FAILED_PRECONDITION',
    `a loss budget of ${budget} nats cannot be certified: the least that was tried has a mean of ${measured.toPrecision(3)} nats on ` +
      `${certificate.samples} samples, with the bound ${bound.toPrecision(3)}: the best budget that can be met is about that` +
      (needed === undefined ? '' : `, or give ${4 * needed} calibration samples (a quarter of them certifies)`),
  );
}
