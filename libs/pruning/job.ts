import type { Sharing } from '../curvature/shards.js';
import type { Parts } from '../data/batch.js';
import type { DatasetOf } from '../data/dataset.js';
import type { Checkpoint } from '../models/checkpoint.js';
import type { CalibrationData } from './calibration/data.js';
import type { PruningTask } from './tasks/task.js';
import type { PruneContext, PruneRequest } from './request.js';

/** Data of any kind, split once. */
export interface SplitData {
  readonly dataset: DatasetOf<unknown>;
  readonly parts: Parts;
}

/** Where the work runs, and how its measurements are divided. */
export interface JobContext extends PruneContext {
  readonly shards?: Sharing | undefined;
}

/** What every stage of the work is given: the request, and what was opened for it. */
export interface AnyJob<Data extends SplitData = SplitData> {
  readonly request: PruneRequest;
  readonly context: JobContext;
  /** Float32 weights. */
  readonly checkpoint: Checkpoint;
  readonly data: Data;
  readonly task: PruningTask;
  /** FLOPs of a sample of version 1; of text, of a token. */
  readonly dense: number;
}

/** Of a classifier of images, the one kind that merges tokens. */
export type Job = AnyJob<CalibrationData>;

/** A job before its task is there: what the task is made from. */
export type Opened<Data extends SplitData> = Omit<AnyJob<Data>, 'task'>;
