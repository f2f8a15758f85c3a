import type { Checkpoint } from '../models/checkpoint.js';
import type { CalibrationData } from './calibration/data.js';
import type { FixedTask } from './tasks/task.js';
import type { PruneContext, PruneRequest } from './request.js';

/** What every stage of the work is given: the request, and what was opened for it. */
export interface Job {
  readonly request: PruneRequest;
  readonly context: PruneContext;
  readonly checkpoint: Checkpoint;
  readonly data: CalibrationData;
  readonly task: FixedTask;
  /** FLOPs of a sample of version 1. */
  readonly dense: number;
}
