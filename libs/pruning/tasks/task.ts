import type { Bits } from '../../models/quantisation/blocks.js';
import type { DivergenceSlopes } from '../../curvature/divergence-slopes.js';
import type { CurvatureFactors } from '../../curvature/factors.js';
import type { RemovedUnits } from '../fixed/remove.js';
import type { ImageManifestDraft, TextManifestDraft } from '../../store/publish.js';
import type { LossMeasures } from '../measure/measure.js';
import type { BitsChoice, FixedChoice, Plan, PredictorArrays } from '../plan.js';

/** Kinds of units that can go for good. */
export const FIXED_KINDS = ['heads', 'neurons'] as const;
export type FixedKind = (typeof FIXED_KINDS)[number];

/** A unit that can go for good. */
export interface FixedUnit {
  readonly kind: FixedKind;
  readonly block: number;
  readonly index: number;
  /** Units of one group keep each other company: some of every group stay. */
  readonly group: number;
  /** FLOPs of a sample (of a token, where the model predicts tokens) that go with it. */
  readonly cost: number;
}

/** A matrix that may get fewer bits than it has: 8 of 32, then 4 of 8. */
export interface BitUnit {
  readonly matrix: string;
  readonly bits: Bits;
  /** Bytes that a decoded token reads less. */
  readonly cost: number;
}

/** Units that go for good and matrices that get fewer bits, under one Hessian: columns of the first, then of the second. */
export interface ByteUnits {
  /** `cost` is in bytes that a decoded token reads less, at 8 bits a weight. */
  readonly units: readonly FixedUnit[];
  readonly bits: readonly BitUnit[];
  /** All bytes that a decoded token of the unpruned model reads. */
  readonly bytes: number;
  /** A root of the mean KL Hessian over all of them, [K, units + bits]. */
  readonly factors: CurvatureFactors;
}

/** A network from which any choice of units can be taken by its gates. */
export interface GatedNetwork {
  /** Mean KL to the unpruned network, nats, with gates of zero on what is removed. @param left in place of zero: part of the way */
  measure(removed: RemovedUnits, left?: number): Promise<number>;
  dispose(): Promise<void>;
}

/** What a network as it would be served loses, and costs. */
export interface NetworkMeasures {
  readonly losses: LossMeasures;
  /** Mean FLOPs of a sample. */
  readonly flops: number;
}

/** One part of the calibration data, with the unpruned model's answers to it. */
export interface PreparedPart {
  /** The unpruned network with gates. @param bits of its matrices */
  openGated(bits?: BitsChoice): Promise<GatedNetwork>;
  /** The network that a choice leaves, as it would be served. */
  measure(choice: FixedChoice | null): Promise<NetworkMeasures>;
}

/**
 * What a job needs to know of a kind of model; all else (order, how far, certification, publishing) is the same for all. The currency of
 * every loss is nats per prediction: of an image, or of a token.
 */
export interface PruningTask {
  readonly blocks: number;
  /** Predictions of what the runtime takes as one sample: 1 of an image, as many as a window has positions of text. */
  readonly predictions: number;
  /** What independent samples are called ('samples', 'documents'), and which share of the calibration data certifies. */
  readonly counted: { readonly samples: string; readonly share: number };
  units(kinds: readonly FixedKind[]): readonly FixedUnit[];
  /** A root of the mean KL Hessian over the gates of these kinds, in the order of `units`. */
  factors(kinds: readonly FixedKind[]): Promise<CurvatureFactors>;
  /**
   * KL and its slopes where some of these units are gone (by their place in `units`), on so many of the samples that fit: those of the next turn are
   * others, as long as there are any. Absent of images: what some hundred of them say of slopes is mostly said by the few that lose the most, and
   * leads an order astray (docs/estimators.md).
   */
  readonly divergence?: (
    kinds: readonly FixedKind[],
    gone: readonly number[],
    share: Turn,
  ) => Promise<DivergenceSlopes>;
  /** The mean over the samples of |∂L/∂m| of the cross-entropy, in the order of `units`. */
  slopes(kinds: readonly FixedKind[]): Promise<Float64Array>;
  /** The summed squares of the weights that go with each, in the order of `units`. */
  magnitudes(kinds: readonly FixedKind[]): Promise<Float64Array>;
  /** What a token reads, and what heads, neurons (of these kinds) and bits cost; throws INVALID_ARGUMENT for a model that is not quantised. */
  byteUnits(kinds: readonly FixedKind[]): Promise<ByteUnits>;
  /** Every matrix with as many bits; throws INVALID_ARGUMENT for a model that is not quantised. */
  uniformBits(bits: Bits): BitsChoice;
  prepare(part: 'search' | 'certify'): Promise<PreparedPart>;
  /** Writes the model that the plan makes, and what belongs to it, into the folder of a version; gives what its manifest says of it alone. */
  write(directory: string, plan: Plan, arrays: PredictorArrays): Promise<TaskDraft>;
}

/** Which samples of a part have their turn. */
export interface Turn {
  readonly turn: number;
  readonly samples: number;
}

/** The samples of a turn, going around. */
export function samplesOfTurn(indices: readonly number[], { turn, samples }: Turn): number[] {
  const count = Math.min(samples, indices.length);
  return Array.from({ length: count }, (_, at) => indices[(turn * count + at) % indices.length]!);
}

/** What manifests of different tasks differ in. */
export type TaskDraft =
  | Pick<ImageManifestDraft, 'task' | 'input' | 'labels' | 'preprocessing' | 'tokens' | 'ladder'>
  | Pick<TextManifestDraft, 'task' | 'text' | 'perplexity'>;

/**
 * The units of some kinds, kind by kind and block by block; heads of a block are one group, its neurons another.
 * @param cost FLOPs that go with a unit of a kind in a block
 */
export function fixedUnits(
  blocks: readonly Readonly<Record<FixedKind, number>>[],
  kinds: readonly FixedKind[],
  cost: (kind: FixedKind, block: number) => number,
): FixedUnit[] {
  return kinds.flatMap((kind) =>
    blocks.flatMap((shape, block) =>
      Array.from({ length: shape[kind] }, (_, index) => ({
        kind,
        block,
        index,
        group: kind === 'heads' ? block : blocks.length + block,
        cost: cost(kind, block),
      })),
    ),
  );
}

/** These units by kind and block, their indices ascending. */
export function removedUnits(units: readonly FixedUnit[], blocks: number): RemovedUnits {
  const lists = () => Array.from({ length: blocks }, (): number[] => []);
  const found = { heads: lists(), neurons: lists() };
  for (const { kind, block, index } of units) found[kind][block]!.push(index);
  for (const list of [...found.heads, ...found.neurons]) list.sort((a, b) => a - b);
  return found;
}
