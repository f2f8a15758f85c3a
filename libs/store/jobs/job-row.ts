import type { ErrorCode } from '../../errors/error.js';
import type { JobRecord, JobState, StageStatus } from './job.js';

/** A row of heartwood.jobs as both drivers give it (bigint as a string or a number). */
export interface JobRow {
  id: string;
  sequence: string | number | bigint;
  request_id: string;
  request: string;
  state: JobState;
  stages: string;
  result: string | null;
  error_code: ErrorCode | null;
  error_message: string | null;
  created_at: Date;
  started_at: Date | null;
  ended_at: Date | null;
  attempts: number;
  deaths: number;
  revision: number;
}

/** The record that a row stands for. */
export function toRecord(row: JobRow): JobRecord {
  return {
    id: row.id,
    requestId: row.request_id,
    request: JSON.parse(row.request),
    state: row.state,
    stages: JSON.parse(row.stages) as StageStatus[],
    result: row.result === null ? null : JSON.parse(row.result),
    error: row.error_code === null ? null : { code: row.error_code, message: row.error_message ?? '' },
    createdAt: row.created_at,
    startedAt: row.started_at,
    endedAt: row.ended_at,
    attempts: row.attempts,
    deaths: row.deaths,
    revision: row.revision,
    sequence: String(row.sequence),
  };
}
