/** What the law by which a budget follows the load is told, and what it keeps from one look to the next. */
import { type EndedCall } from './recent-calls.js';
import { type ServiceModel, serviceModel } from './service-model.js';

export interface ControlSettings {
  /** The 95th percentile to keep, milliseconds. */
  readonly objectiveMs: number;
  /** Work of each rung relative to the first, as foretold; as many as there are rungs. */
  readonly work: readonly number[];
}

/** A look at the queue. */
export interface Sample {
  /** Milliseconds on any clock that does not go back. */
  readonly now: number;
  /** Calls that came since the last look. */
  readonly arrived: number;
  /** Calls that wait or run. */
  readonly pending: number;
  readonly oldestWaitingMs: number;
  /** Calls that ended since the last look, oldest first. */
  readonly ended: readonly EndedCall[];
  /** Share of the worker's time that other versions took lately. */
  readonly others: number;
}

export interface ControlState {
  readonly rung: number;
  readonly service: ServiceModel;
  readonly calls: readonly EndedCall[];
  /** Looks of the last rest, oldest first. */
  readonly looks: readonly Look[];
  readonly changedAt: number;
  readonly direction: 'up' | 'down' | undefined;
  /** When something last pressed. */
  readonly pressedAt: number;
  /** Times the rest before a fall. */
  readonly patience: number;
  readonly patienceAt: number;
  /** What measured latencies are of those foretold: arrivals in bursts make it more than 1. */
  readonly burstiness: number;
  /** The 95th percentile of the recent calls, milliseconds; undefined for too few. */
  readonly p95: number | undefined;
  /** It presses at the last rung: more cannot be done. */
  readonly exhausted: boolean;
}

/** What is kept of a sample. */
export interface Look {
  readonly at: number;
  readonly arrived: number;
  readonly pending: number;
}

export interface Spans {
  /** Over which the load of the moment is counted; over which a lasting one is, which is also the rest before a fall. */
  readonly moment: number;
  readonly rest: number;
  /** In which a rise is to have worked a backlog off. */
  readonly drain: number;
  /** Over which latencies are looked at. */
  readonly latencies: number;
}

/** Milliseconds, by the objective. */
export function spansOf(objectiveMs: number): Spans {
  const rest = Math.max(2000, 20 * objectiveMs);
  return { moment: Math.max(300, 3 * objectiveMs), rest, drain: rest / 2, latencies: 3 * rest };
}

/** The state before the first look. */
export function controlState({ work }: ControlSettings, now: number): ControlState {
  return {
    rung: 0,
    service: serviceModel(work),
    calls: [],
    looks: [],
    changedAt: now,
    direction: undefined,
    pressedAt: -Infinity,
    patience: 1,
    patienceAt: now,
    burstiness: 1,
    p95: undefined,
    exhausted: false,
  };
}
