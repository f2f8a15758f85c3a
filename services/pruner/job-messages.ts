import type { JobRecord, JobState as RecordState, StageStatus } from '../../libs/store/jobs/job.js';
import {
  type Job,
  JobState,
  type PruneRequest,
  type Stage,
  StageState,
} from '../../proto/gen/heartwood/pruning/v1/pruning.js';
import { invalid } from '../../libs/errors/error.js';
import { ladderText } from '../../libs/pruning/ladder/counts.js';
import type { JobOutcome } from './prune-work.js';
import type { JobRequest } from './prune-request.js';

const STATES: Record<RecordState, JobState> = {
  queued: JobState.JOB_STATE_QUEUED,
  running: JobState.JOB_STATE_RUNNING,
  succeeded: JobState.JOB_STATE_SUCCEEDED,
  failed: JobState.JOB_STATE_FAILED,
  cancelled: JobState.JOB_STATE_CANCELLED,
};
const STAGE_STATES: Record<StageStatus['state'], StageState> = {
  pending: StageState.STAGE_STATE_PENDING,
  running: StageState.STAGE_STATE_RUNNING,
  done: StageState.STAGE_STATE_DONE,
};

/** A job as the wire has it. */
export function toWireJob(job: JobRecord): Job {
  const outcome = job.result as JobOutcome | null;
  const request = job.request as JobRequest;
  return {
    id: job.id,
    requestId: job.requestId === job.id ? '' : job.requestId,
    request: toWireRequest(request),
    state: STATES[job.state],
    stages: job.stages.map(toWireStage),
    result: outcome ? { name: request.name, version: outcome.version, directory: outcome.directory } : undefined,
    error: job.error ?? undefined,
    createdAt: job.createdAt,
    startedAt: job.startedAt ?? undefined,
    endedAt: job.endedAt ?? undefined,
    attempts: job.attempts,
    revision: job.revision,
  };
}

/** States of a filter as the database has them. @throws HeartwoodError INVALID_ARGUMENT */
export function toRecordStates(states: readonly JobState[]): RecordState[] {
  return states.map((state) => {
    const found = (Object.keys(STATES) as RecordState[]).find((name) => STATES[name] === state);
    if (!found) throw invalid(`states: expected states of a job, got ${state}`);
    return found;
  });
}

function toWireRequest(request: JobRequest): PruneRequest {
  const { lossBudget, flopsSaved, samples, shardSamples } = request;
  return { ...request, lossBudget, flopsSaved, samples, shardSamples, ladder: ladderText(request.ladder) };
}

function toWireStage(stage: StageStatus): Stage {
  const { name, done, total, unit, seconds, resumed } = stage;
  const [rate, secondsLeft] = [stage.rate ?? undefined, stage.secondsLeft ?? undefined];
  return { name, state: STAGE_STATES[stage.state], done, total, unit, rate, secondsLeft, seconds, resumed };
}
