/** What a recipe of the table makes: its data, how good the weights are, and the checkpoint that is left. */
import type { Runtime } from '../runtime/runtime.js';
import type { Parameters } from './parameters.js';
import type { Recipe } from './recipe.js';
import type { TrainingTask } from './task.js';

/** How good the weights are on data that they never saw. */
export interface Assessment {
  /** Images, or tokens that were predicted. */
  readonly samples: number;
  /** Share of the samples whose largest logit is the right one. */
  readonly accuracy: number;
  /** Mean cross-entropy, nats a sample. */
  readonly loss: number;
}

export interface TrainReport {
  readonly directory: string;
  readonly parameters: number;
  readonly megabytes: number;
  readonly steps: number;
  readonly minutes: number;
  readonly validation: Assessment;
  readonly test: Assessment;
}

export interface TrainingJob {
  readonly recipe: Recipe;
  readonly task: TrainingTask;
  /** What the steps of a phase see, for people: `32×32`. */
  phaseName(phase: number): string;
  /** `glance` is a part of the validation split, for a look while training runs. */
  assess(runtime: Runtime, parameters: Parameters, split: 'glance' | 'validation' | 'test'): Promise<Assessment>;
  /** The assessment in a few words. */
  describe(assessment: Assessment): string;
  /** Rounds the weights to what the checkpoint will hold, so that what is assessed is what is written. */
  round?(parameters: Parameters): void;
  /** Writes the checkpoint's files to a folder, all but the model card. */
  write(directory: string, parameters: Parameters): Promise<void>;
  /** The model card, README.md: written by the command, so that its figures are those of the run that made the checkpoint. */
  card(report: TrainReport): Promise<string> | string;
}
