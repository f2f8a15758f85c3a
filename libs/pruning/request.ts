import type { Bits } from '../models/quantisation/blocks.js';
import type { Runtime } from '../runtime/runtime.js';
import type { SharedWork } from '../store/jobs/shared-task.js';
import type { Manifest } from '../store/manifest.js';
import type { LadderWish } from './ladder/counts.js';
import type { PolicyName } from './policies/index.js';

/** What a plan may take: tokens at run time, heads and neurons for good, bits of the weights. */
export const PRUNABLE_UNITS = ['tokens', 'heads', 'neurons', 'bits'] as const;
export type PrunableUnit = (typeof PRUNABLE_UNITS)[number];

/** What is to be pruned, and how far. Exactly one of `lossBudget` and `flopsSaved` is given. */
export interface PruneRequest {
  /** A Hugging Face checkpoint folder. */
  readonly modelDirectory: string;
  /** Calibration data, as `openDataset` or, for a language model, `openText` takes it. */
  readonly data: string;
  /** The name of the model in the repository. */
  readonly name: string;
  readonly repository: string;
  /** Nats per sample; of text, per predicted position. */
  readonly lossBudget?: number;
  /** Share of the dense FLOPs, in (0, 1). */
  readonly flopsSaved?: number;
  /** What may go; none: tokens of images, heads and neurons of a language model. */
  readonly units: readonly string[];
  readonly policy: PolicyName;
  readonly loss: 'kl' | 'cross-entropy';
  /** Calibration samples at most; by default 2,000 images or 400 windows of text. */
  readonly samples?: number;
  /** Tokens of a window of text; by default 256, or the model's context where that is less. */
  readonly window?: number;
  /** Bits of every matrix of a language model; absent: float32, or what the plan chooses where bits are units. */
  readonly bits?: Bits;
  /** Samples that are measured at once by one process, rounded up to whole runs; by default some runs. The plan's last bits depend on it. */
  readonly shardSamples?: number;
  /** The pruned classifier also at fixed counts of tokens; its policy must merge. */
  readonly ladder?: LadderWish;
  readonly seed: number;
  /** Of the bound on the mean loss; 0.95 unless told. */
  readonly confidence: number;
  /** Marks the version, so that publishing again after a crash finds it. */
  readonly publication?: string;
}

/** Where the work runs. Stages run in order, each through `checkpoint`, so that a killed job goes on where it was. */
export interface PruneContext {
  readonly runtime: Runtime;
  /** The stage's stored result when it was done before, else that of `compute`, stored. Plain JSON and typed arrays. */
  checkpoint<T>(stage: string, compute: () => Promise<T>): Promise<T>;
  progress(event: { stage: string; done: number; total: number; unit: string }): void;
  readonly signal: AbortSignal;
  readonly workDirectory: string;
  /** Where other processes take a part in what is measured; without it all is done here, to the same plan. */
  readonly shared?: SharedWork;
}

/** A published version. */
export interface PruneResult {
  readonly version: number;
  readonly directory: string;
  readonly manifest: Manifest;
}
