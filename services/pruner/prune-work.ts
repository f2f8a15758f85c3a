import type { Runtime } from '../../libs/runtime/runtime.js';
import type { JobContext } from '../../libs/store/jobs/job-run.js';
import type { Manifest } from '../../libs/store/manifest.js';
import type { JobRequest } from './prune-request.js';

/** Stages of a job, in order; every one ends in a checkpoint. */
export const STAGES = ['import', 'score', 'predictor', 'plan', 'search', 'certify', 'write'] as const;

/** What a job is given: its request, and the repository of the pruner that runs it. */
export interface WorkRequest extends JobRequest {
  repository: string;
  /** Marks the published version, so that a job killed between publishing and saying so does not publish twice. */
  publication: string;
}

export interface WorkContext extends JobContext {
  readonly runtime: Runtime;
}

/** What a job comes to; kept as its result. */
export interface JobOutcome {
  version: number;
  directory: string;
  manifest: Manifest;
}

/** The work of a job, from the checkpoint of the model to the published version. */
export type PruneWork = (request: WorkRequest, context: WorkContext) => Promise<JobOutcome>;
