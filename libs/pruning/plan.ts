import type { Bits } from '../models/quantisation/blocks.js';
import type { BudgetTable } from './stages/budget.js';
import type { PromptStage } from './prompt/parameters.js';
import type { StageParameters } from './stages/parameters.js';
import type { RemovedUnits } from './fixed/remove.js';

/** Where an array of a plan lies: a tensor of the version's `predictors.safetensors`. */
export interface ArrayReference {
  readonly tensor: string;
}

type Referenced<T> = T extends Float32Array
  ? ArrayReference
  : T extends readonly (infer U)[]
    ? readonly Referenced<U>[]
    : T extends object
      ? { readonly [K in keyof T]: Referenced<T[K]> }
      : T;

/** A stage of either task: of images one that merges tokens, of text one that drops those of a prompt. */
export type TokenStage = StageParameters | PromptStage;

/** A stage as the plan holds it: its numbers by reference. */
export type PlannedStage = Referenced<TokenStage>;

/**
 * All that was decided, as JSON: with the checkpoint and the predictors it makes the same model again, bit for bit. It stands in
 * the manifest of the version.
 */
export interface Plan {
  readonly schema: 1;
  readonly checkpointDigest: string;
  readonly data: {
    readonly digest: string;
    readonly fit: number;
    readonly search: number;
    readonly certify: number;
  };
  readonly policy: string;
  readonly loss: 'kl' | 'cross-entropy';
  readonly units: readonly string[];
  readonly seed: number;
  readonly target: { readonly lossBudget: number } | { readonly flopsSaved: number };
  /** Heads and neurons that are gone for good; null when none were asked for. */
  readonly removed: FixedPlan | null;
  /** What is merged (of images) or dropped (of prompts) at run time; null when it was not asked for. */
  readonly tokens: TokenPlan | null;
  readonly certificate: Certificate;
}

/** Bits of the matrices that are quantised, by the names of their weights. */
export type BitsChoice = Readonly<Record<string, Bits>>;

/** What is decided for good: the units that are gone, and the bits of what is left. */
export interface FixedChoice extends RemovedUnits {
  /** Absent: all weights are float32. */
  readonly bits?: BitsChoice;
}

export interface FixedPlan extends FixedChoice {
  /**
   * ΔL in nats per sample: by the derivatives on the samples that were fitted (`guidedRemovals`; of bits ½ sᵀHs alone, far too low of many units; of the
   * policies that have no nats their own score), and as measured on those that were searched.
   */
  readonly predicted: number;
  readonly measured: number;
}

export interface TokenPlan {
  readonly stages: readonly PlannedStage[];
  /** SHA-256 over the arrays in `predictors.safetensors` (`digestArrays`); null where no stage has arrays. */
  readonly predictors: string | null;
  /** How well each predictor foretells its target on samples that it was not fitted on: R² and rank correlation. */
  readonly fits: readonly { readonly block: number; readonly r2: number; readonly rankCorrelation: number }[];
  readonly table: BudgetTable;
}

/** What was measured on samples that nothing else has seen. */
export interface Certificate {
  readonly budget: number;
  /** What the searched samples foretold: they chose how far to go, but not in which order, and have seen no more of it. */
  readonly predicted: number;
  readonly measured: number;
  readonly bound: number;
  readonly confidence: number;
  /** Images, or documents: what is independent of each other. */
  readonly samples: number;
  /** Predictions of all samples together, where a sample holds more than one; absent otherwise. */
  readonly predictions?: number;
  /** Mean KL and mean rise of the cross-entropy, whichever the budget is in; null without labels. */
  readonly kl: number;
  readonly crossEntropyRise: number | null;
  /** Mean cross-entropy itself, where it was measured. */
  readonly crossEntropy?: { readonly dense: number; readonly pruned: number };
  readonly accuracy: { readonly dense: number; readonly pruned: number } | null;
  /** Mean FLOPs of a sample. */
  readonly flops: number;
  /** Spearman's, over the samples: the summed predicted cost of what was merged against the KL; null where nothing was. */
  readonly rankCorrelation: number | null;
}

/** The arrays of the stages by the names that the plan refers to them with. */
export type PredictorArrays = ReadonlyMap<string, Float32Array>;

/** Takes the arrays out of the stages. */
export function referenceArrays(stages: readonly TokenStage[]): {
  readonly stages: readonly PlannedStage[];
  readonly arrays: PredictorArrays;
} {
  const arrays = new Map<string, Float32Array>();
  const walk = (value: unknown, path: string): unknown => {
    if (value instanceof Float32Array) {
      arrays.set(path, value);
      return { tensor: path };
    }
    if (typeof value !== 'object' || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, walk(part, `${path}.${key}`)]));
  };
  return { stages: stages.map((stage, at) => walk(stage, `stage${at}`) as PlannedStage), arrays };
}

/** Puts the arrays back; which stages a plan has is up to its task. Throws a TypeError for an array that is missing. */
export function resolveArrays<Stage extends TokenStage = StageParameters>(
  stages: readonly PlannedStage[],
  arrays: PredictorArrays,
): Stage[] {
  const walk = (value: unknown): unknown => {
    if (typeof value !== 'object' || value === null) return value;
    const { tensor } = value as Partial<ArrayReference>;
    if (tensor !== undefined) {
      const array = arrays.get(tensor);
      if (!array) throw new TypeError(`predictors.safetensors has no tensor ${tensor}`);
      return array;
    }
    return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, walk(part)]));
  };
  return stages.map((stage) => walk(stage) as Stage);
}
