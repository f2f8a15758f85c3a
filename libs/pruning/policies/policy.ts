import type { CurvatureContext } from '../../curvature/estimate.js';
import type { Dataset } from '../../data/dataset.js';
import type { Samples } from '../../curvature/batches.js';
import type { Checkpoint } from '../../models/checkpoint.js';
import type { Runtime } from '../../runtime/runtime.js';
import type { StageRule, StageScore, StageSelection } from '../stages/parameters.js';

/** What a policy learns from: calibration samples that are for fitting alone. */
export interface FitInputs {
  readonly checkpoint: Checkpoint;
  readonly samples: Samples<Dataset>;
  /** The blocks at whose seams the stages sit. */
  readonly blocks: readonly number[];
  readonly seed: number;
}

/** How well a predictor foretells its target on samples that it was not fitted on. */
export interface Fit {
  readonly block: number;
  readonly r2: number;
  readonly rankCorrelation: number;
}

export interface FittedScores {
  /** One for each block. */
  readonly scores: readonly StageScore[];
  readonly fits: readonly Fit[];
}

export interface FitContext {
  readonly runtime: Runtime;
  readonly signal: AbortSignal;
  progress(done: number, total: number): void;
}

/**
 * A policy: which tokens go, and what becomes of them. All run through the same stages, schedule and measurements, so that only the
 * score or the merge differs. `Targets` is what `score` measures, plain data that can be kept.
 */
export interface Policy<Targets = unknown> {
  /** Whether it learns from the labels of the calibration data (never of the input that it prunes). */
  readonly needsLabels: boolean;
  readonly rule: StageRule;
  readonly selection: StageSelection;
  /** Matchings of a stage. */
  readonly matchings: number;
  /** Measures the targets of its predictors. */
  score(inputs: FitInputs, context: CurvatureContext): Promise<Targets>;
  /** Fits the predictors. */
  fit(targets: Targets, inputs: FitInputs, context: FitContext): Promise<FittedScores>;
}

/** A policy without predictors. */
export function plainPolicy(
  shape: Pick<Policy, 'rule' | 'selection' | 'matchings'>,
  scoreOf: (block: number, seed: number) => StageScore,
): Policy<null> {
  return {
    needsLabels: false,
    ...shape,
    score: () => Promise.resolve(null),
    fit: (_, { blocks, seed }) => Promise.resolve({ scores: blocks.map((block) => scoreOf(block, seed)), fits: [] }),
  };
}
