/** A client of the pruning service for the commands that talk to a pruner. */
import { ClientError } from 'nice-grpc';
import { HeartwoodError, internal, invalid } from '../../libs/errors/error.js';
import {
  type Job,
  JobState,
  type ListJobsResponse,
  type PruneRequest,
  PruningServiceDefinition,
  type Report,
} from '../../proto/gen/heartwood/pruning/v1/pruning.js';
import { type ConnectionOptions, openChannel } from '../grpc/channel.js';
import { fromStatus, isAbort } from '../grpc/errors.js';

export { type Job, JobState, type Report, StageState } from '../../proto/gen/heartwood/pruning/v1/pruning.js';

/** What to ask for: a model, data, and one of the two targets; the service fills in the rest. */
export type PruneWish = Partial<PruneRequest> & Pick<PruneRequest, 'modelDirectory' | 'data'>;

/** Every call throws the pruner's error as a HeartwoodError with the same code, UNAVAILABLE when there is no pruner. */
export interface PruningClient {
  /** Resolves when the pruner answers, tried until the deadline. Throws UNAVAILABLE at it. */
  waitUntilReady(deadlineMs: number): Promise<void>;
  /** @param requestId makes the call safe to repeat */
  create(request: PruneWish, requestId?: string): Promise<Job>;
  get(id: string): Promise<Job>;
  list(options?: { states?: JobState[]; pageSize?: number; pageToken?: string }): Promise<ListJobsResponse>;
  cancel(id: string): Promise<Job>;
  /**
   * The job now and after every change, until it has ended. A stream that breaks is opened anew for `patienceMs` (default 60 s), as
   * when the pruner is started again; then UNAVAILABLE is thrown.
   */
  watch(id: string, options?: { signal?: AbortSignal; patienceMs?: number }): AsyncIterable<Job>;
  report(id: string): Promise<Report>;
  close(): void;
}

/**
 * @param address host:port, or https://host:port
 * @throws HeartwoodError INVALID_ARGUMENT naming a file of the options that is no good
 */
export function connectPruning(address: string, connection: ConnectionOptions = {}): PruningClient {
  const { channel, clients } = openChannel(address, connection, {
    // The default grows to two minutes, long after a pruner is back.
    'grpc.max_reconnect_backoff_ms': 1000,
    'grpc.initial_reconnect_backoff_ms': 100,
  });
  const pruning = clients.create(PruningServiceDefinition, channel);
  return {
    waitUntilReady: (deadlineMs) => waitUntilReady(() => pruning.listJobs({ pageSize: 1 }), deadlineMs),
    create: (request, requestId = '') =>
      mapped(() => {
        checkUnsigned({ seed: request.seed, samples: request.samples, shard_samples: request.shardSamples });
        const wish = { name: '', units: [], policy: '', loss: '', seed: 0, ...request };
        return pruning.createJob({ requestId, request: wish });
      }),
    get: (id) => mapped(() => pruning.getJob({ id })),
    list: (options = {}) =>
      mapped(() => {
        checkUnsigned({ page_size: options.pageSize });
        return pruning.listJobs(options);
      }),
    cancel: (id) => mapped(() => pruning.cancelJob({ id })),
    watch: (id, options = {}) => resumed((signal) => pruning.watchJob({ id }, signal ? { signal } : {}), options),
    report: (id) => mapped(() => pruning.getReport({ id })),
    close: () => channel.close(),
  };
}

/** Whether a job in this state will never change again. */
export function hasEnded(state: JobState): boolean {
  return state !== JobState.JOB_STATE_QUEUED && state !== JobState.JOB_STATE_RUNNING;
}

/** What the protocol cannot carry is refused by its field, before the encoder does without one. */
function checkUnsigned(fields: Readonly<Record<string, number | undefined>>): void {
  for (const [field, value] of Object.entries(fields)) {
    if (value === undefined || (Number.isInteger(value) && value >= 0 && value < 2 ** 32)) continue;
    throw invalid(`${field}: expected a whole number from 0 to ${2 ** 32 - 1}, got ${value}`);
  }
}

async function* resumed(
  open: (signal: AbortSignal | undefined) => AsyncIterable<Job>,
  { signal, patienceMs = 60_000 }: { signal?: AbortSignal; patienceMs?: number },
): AsyncGenerator<Job> {
  let revision = -1;
  /** When it broke; undefined while it does not. Not since when nothing was heard: a job may have nothing to tell for long. */
  let broken: number | undefined;
  for (;;) {
    try {
      for await (const job of open(signal)) {
        broken = undefined;
        if (job.revision === revision) continue;
        revision = job.revision;
        yield job;
        if (hasEnded(job.state)) return;
      }
      throw new HeartwoodError('UNAVAILABLE', 'the stream ended before the job did');
    } catch (thrown) {
      const error = asHeartwoodError(thrown);
      broken ??= performance.now();
      if (error.code !== 'UNAVAILABLE' || performance.now() - broken > patienceMs) throw error;
    }
    await pause(100);
  }
}

async function waitUntilReady(ask: () => Promise<unknown>, deadlineMs: number): Promise<void> {
  const end = performance.now() + deadlineMs;
  for (let wait = 20; ; wait = Math.min(500, wait * 2)) {
    try {
      await ask();
      return;
    } catch (thrown) {
      const { code, message } = asHeartwoodError(thrown);
      if (code === 'UNAVAILABLE' && performance.now() + wait < end) await pause(wait);
      else throw new HeartwoodError('UNAVAILABLE', `the pruner did not answer within ${deadlineMs} ms: ${message}`);
    }
  }
}

async function mapped<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (thrown) {
    throw asHeartwoodError(thrown);
  }
}

function asHeartwoodError(thrown: unknown): HeartwoodError {
  if (thrown instanceof HeartwoodError) return thrown;
  if (thrown instanceof ClientError) return fromStatus(thrown.code, thrown.details, thrown);
  if (isAbort(thrown)) return new HeartwoodError('CANCELLED', 'the call was cancelled', { cause: thrown });
  return internal(`the call failed: ${String(thrown)}`, thrown);
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
