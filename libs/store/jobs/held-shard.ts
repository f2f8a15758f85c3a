import { type ErrorCode, HeartwoodError, messageOf } from '../../errors/error.js';
import type { HeldShard, ShardStore } from './shard-store.js';

/** What became of a shard in one pair of hands. */
export const SHARD_OUTCOMES = ['done', 'failed', 'refused', 'released', 'lost'] as const;
export type ShardOutcome = (typeof SHARD_OUTCOMES)[number];

/** Thrown by the work on a shard that this process is not fit for (another may be): its message says why. */
export class ShardRefused extends Error {
  override readonly name = 'ShardRefused';
}

export interface HoldOptions {
  readonly store: ShardStore;
  /** Whose hands. */
  readonly worker: string;
  readonly leaseMs: number;
  /** Aborted when the worker is to stop, or the shard is of no use any more. */
  readonly signal: AbortSignal;
  readonly onWarning: (message: string, error: unknown) => void;
}

/**
 * Does the work on a shard that was claimed: its lease is kept while the work goes on, and what came of it is written down. Throws only
 * what the database throws while it is written down; the lease then runs out.
 * @param work is told by its signal when the shard is lost, or the worker to stop
 */
export async function holdShard(
  shard: HeldShard,
  { store, worker, leaseMs, signal, onWarning }: HoldOptions,
  work: (signal: AbortSignal) => Promise<unknown>,
): Promise<ShardOutcome> {
  const lost = new AbortController();
  let renewed = performance.now();
  let renewing: Promise<void> | undefined;
  const renew = async () => {
    const began = performance.now();
    try {
      if (!(await store.renew(shard, worker)))
        lost.abort(new HeartwoodError('CANCELLED', `${nameOf(shard)} went to another worker, or its job has ended`));
      renewed = began;
    } catch (error) {
      onWarning(`the lease of ${nameOf(shard)} could not be renewed`, error);
      if (performance.now() - renewed > leaseMs) lost.abort(new HeartwoodError('CANCELLED', 'the lease ran out'));
    }
  };
  const timer = setInterval(() => {
    renewing ??= renew().finally(() => (renewing = undefined));
  }, leaseMs / 6);
  try {
    const outcome = await work(AbortSignal.any([signal, lost.signal])).then(
      (value) => ({ value }),
      (error: unknown) => ({ error }),
    );
    if ('value' in outcome) return (await store.complete(shard, worker, outcome.value)) ? 'done' : 'lost';
    if (lost.signal.aborted) return 'lost';
    if (signal.aborted || outcome.error instanceof ShardRefused) {
      await store.release(shard, worker);
      if (signal.aborted) return 'released';
      onWarning(`${nameOf(shard)} refused: ${messageOf(outcome.error)}`, undefined);
      return 'refused';
    }
    const failure = describeFailure(outcome.error);
    onWarning(`${nameOf(shard)} failed: ${failure.message}`, outcome.error);
    await store.fail(shard, worker, failure);
    return 'failed';
  } finally {
    clearInterval(timer);
    await renewing;
  }
}

function nameOf({ job, part, content }: HeldShard): string {
  const { measurement = 'a task' } = content as { measurement?: string };
  return `shard ${part + 1} of ${measurement} of job ${job}`;
}

/** An error as it is kept: its code and one line. */
export function describeFailure(error: unknown): { code: ErrorCode; message: string } {
  const code = error instanceof HeartwoodError ? error.code : 'INTERNAL';
  return { code, message: messageOf(error).replace(/\s*[\r\n]+\s*/g, ' ') };
}
