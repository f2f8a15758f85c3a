import type { ErrorCode } from '../../errors/error.js';

export const JOB_STATES = ['queued', 'running', 'succeeded', 'failed', 'cancelled'] as const;
export type JobState = (typeof JOB_STATES)[number];

/** Whether a job in this state will never change again. */
export function hasEnded(state: JobState): boolean {
  return state !== 'queued' && state !== 'running';
}

/** How far a stage of a job is. */
export interface StageStatus {
  name: string;
  state: 'pending' | 'running' | 'done';
  /** Work done and in all, in `unit`; total is 0 while it is not known. */
  done: number;
  total: number;
  unit: string;
  /** Units per second lately, and the time that the rest takes at that rate; null before any was done. */
  rate: number | null;
  secondsLeft: number | null;
  /** Time spent in the stage, over all attempts. */
  seconds: number;
  /** Whether its result came from a checkpoint. */
  resumed: boolean;
}

/** A job as it stands in the database. */
export interface JobRecord {
  readonly id: string;
  readonly requestId: string;
  readonly request: unknown;
  readonly state: JobState;
  readonly stages: readonly StageStatus[];
  /** What the work returned, once it has succeeded. */
  readonly result: unknown;
  readonly error: { readonly code: ErrorCode; readonly message: string } | null;
  readonly createdAt: Date;
  readonly startedAt: Date | null;
  readonly endedAt: Date | null;
  /** How often a worker took it up. */
  readonly attempts: number;
  /** How often in a row its worker died without completing a stage. */
  readonly deaths: number;
  /** Grows with every change. */
  readonly revision: number;
  /** Its place in the order of creation, a decimal number. */
  readonly sequence: string;
}
