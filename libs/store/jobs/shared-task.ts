import { createHash } from 'node:crypto';
import { setTimeout as wait } from 'node:timers/promises';
import { HeartwoodError } from '../../errors/error.js';
import { canonicalJson } from './canonical-json.js';
import { holdShard, type ShardOutcome } from './held-shard.js';
import type { ShardStore } from './shard-store.js';

/** Work in parts that other processes may take, while the one that asks for it takes them too. */
export interface SharedWork {
  /**
   * Has every part of a task done, here or elsewhere, and gives their results in order as they were kept, whoever had them done. Parts that
   * an earlier attempt of the job had done are not done again.
   * @param contents what is to be done, JSON, for a worker to read; the same contents are the same task
   * @param here does a part in this process
   * @param onDone told how many parts are done
   * @throws the error of a part that failed too often; CANCELLED
   */
  run(
    contents: readonly unknown[],
    here: (part: number, signal: AbortSignal) => Promise<unknown>,
    onDone?: (done: number) => void,
  ): AsyncIterable<unknown>;
}

export interface SharedTaskOptions {
  readonly store: ShardStore;
  readonly job: string;
  readonly worker: string;
  readonly leaseMs: number;
  readonly pollMs: number;
  readonly signal: AbortSignal;
  readonly onShard: (shard: ShardEnd) => void;
  readonly onWarning: (message: string, error: unknown) => void;
}

/** A shard that left these hands, for metrics. */
export interface ShardEnd {
  readonly outcome: ShardOutcome;
  readonly seconds: number;
}

/** How long to wait at most for shards that others have in hand, before looking again. */
const longestLookMs = 100;

/** The shared work of a job that this process holds. */
export function sharedWork(options: SharedTaskOptions): SharedWork {
  const { store, job, worker, pollMs, signal, onShard } = options;
  return {
    async *run(contents, here, onDone) {
      const task = createHash('sha256').update(canonicalJson(contents)).digest('hex').slice(0, 16);
      const asked = <T>(action: () => Promise<T>) => whenThere(action, options);
      await asked(() => store.post(job, worker, task, contents));
      for (let reclaimed = -Infinity; ;) {
        signal.throwIfAborted();
        if (performance.now() - reclaimed > pollMs) {
          reclaimed = performance.now();
          await asked(() => store.reclaim());
        }
        const { done, failed } = await asked(() => store.progress(job, task));
        onDone?.(done);
        if (failed) {
          const { code, message } = failed.error;
          const which = `shard ${failed.part + 1} of ${contents.length} failed ${failed.attempts} times`;
          throw new HeartwoodError(code, `${which}, the last time: ${message}`);
        }
        if (done === contents.length) break;
        const shard = await asked(() => store.claim(worker, { only: { job, task } }));
        if (shard) {
          const began = performance.now();
          // The database may be away when the result is there: the shard then runs out, and is taken again.
          const outcome = await holdShard(shard, options, (stop) => here(shard.part, stop)).catch((error: unknown) => {
            options.onWarning('a shard could not be written down', error);
            return 'lost' as const;
          });
          onShard({ outcome, seconds: (performance.now() - began) / 1000 });
        } else {
          await wait(Math.min(pollMs, longestLookMs), undefined, { signal }).catch(() => undefined);
        }
      }
      for (let part = 0; part < contents.length; part++) {
        const kept = await asked(() => store.result(job, task, part));
        // A result that cannot be read back is worth no more than one that was never there.
        yield kept ? kept.value : await here(part, signal);
      }
    },
  };
}

/** Asks the database until it can be reached: the loss of a job's lease ends the wait by the signal. */
async function whenThere<T>(
  action: () => Promise<T>,
  { signal, pollMs, onWarning }: Pick<SharedTaskOptions, 'signal' | 'pollMs' | 'onWarning'>,
): Promise<T> {
  for (;;) {
    signal.throwIfAborted();
    try {
      return await action();
    } catch (error) {
      if (!(error instanceof HeartwoodError && error.code === 'UNAVAILABLE')) throw error;
      onWarning('shards could not be looked for', error);
      await wait(pollMs, undefined, { signal }).catch(() => undefined);
    }
  }
}
