import { randomUUID } from 'node:crypto';
import { type ErrorCode, HeartwoodError } from '../../errors/error.js';
import type { Database, Executor } from '../database/database.js';
import type { DatabaseCheckpoints } from './checkpoints.js';
import type { JobQueue } from './job-queue.js';

export const SHARD_STATES = ['queued', 'running', 'done', 'failed'] as const;
export type ShardState = (typeof SHARD_STATES)[number];

/** A shard that a worker holds. */
export interface HeldShard {
  readonly job: string;
  /** The task that it is a part of. */
  readonly task: string;
  readonly part: number;
  /** What is to be done; JSON. */
  readonly content: unknown;
  /** How often it was taken, this time included. */
  readonly attempts: number;
}

/** How far the shards of a task are. */
export interface TaskProgress {
  readonly done: number;
  /** The first that failed for good. */
  readonly failed: { readonly part: number; readonly attempts: number; readonly error: HeartwoodError } | undefined;
}

interface ShardRow {
  job: string;
  task: string;
  part: number;
  content: string;
  attempts: number;
}

/** Stages under which results lie begin with this, which no stage of a job does. */
const resultPrefix = 'shard/';

/**
 * The shards of jobs in the database, and their results. As with jobs, what a worker writes holds only while it holds the shard. Each shard
 * that waits has a message in the queue; the truth is its row, so one that lost its message is found all the same.
 */
export class ShardStore {
  constructor(
    private readonly database: Database,
    private readonly queue: JobQueue,
    private readonly checkpoints: DatabaseCheckpoints,
    private readonly leaseSeconds: number,
    /** How often a shard is taken at most. */
    private readonly maxAttempts: number,
  ) {}

  /**
   * Queues the shards of a task that are not there yet; those that an earlier attempt of the job left, done or not, stay.
   * @throws HeartwoodError CANCELLED when the worker no longer holds the job
   */
  async post(job: string, worker: string, task: string, contents: readonly unknown[]): Promise<void> {
    const texts = contents.map((content) => JSON.stringify(content));
    const messages = contents.map(() => randomUUID());
    await this.database.transaction(async (transaction) => {
      const held = await transaction.query(
        `SELECT id FROM heartwood.jobs WHERE id = $1 AND worker = $2 AND state = 'running' FOR UPDATE`,
        [job, worker],
      );
      if (held.length === 0) throw new HeartwoodError('CANCELLED', `job ${job}: no longer held by this worker`);
      const rows = await transaction.query<{ message: string }>(
        `INSERT INTO heartwood.shards (job, task, part, content, message)
         SELECT $1, $2, given.part - 1, given.content, given.message
         FROM unnest($3::text[], $4::uuid[]) WITH ORDINALITY AS given (content, message, part)
         ON CONFLICT DO NOTHING RETURNING message`,
        [job, task, texts, messages],
      );
      await this.queue.sendShards(
        rows.map(({ message }) => message),
        transaction,
      );
    });
  }

  /**
   * Takes a waiting shard of a job that has not ended, whether or not a pruner is at it just now, and its message with it.
   * @param wanted `first`: the one with this message, if it can be had; `only`: of this task; `except`: of any but those, as `job/task`
   */
  async claim(
    worker: string,
    {
      first,
      only,
      except = [],
    }: { first?: string; only?: { job: string; task: string }; except?: readonly string[] } = {},
  ): Promise<HeldShard | undefined> {
    return this.database.transaction(async (transaction) => {
      const [row] = await transaction.query<ShardRow & { message: string }>(
        `UPDATE heartwood.shards SET state = 'running', worker = $1, attempts = attempts + 1,
         lease_until = clock_timestamp() + $2 * interval '1 second'
         WHERE (job, task, part) = (
           SELECT shard.job, shard.task, shard.part FROM heartwood.shards AS shard JOIN heartwood.jobs AS job ON job.id = shard.job
           WHERE shard.state = 'queued' AND job.state IN ('queued', 'running')
           AND NOT (shard.job::text || '/' || shard.task = ANY($3::text[]))
           AND ($4::uuid IS NULL OR shard.job = $4 AND shard.task = $5)
           ORDER BY coalesce(shard.message = $6::uuid, false) DESC, job.sequence, shard.part
           LIMIT 1 FOR UPDATE OF shard SKIP LOCKED)
         RETURNING job, task, part, content, attempts, message`,
        [worker, this.leaseSeconds, [...except], only?.job ?? null, only?.task ?? null, first ?? null],
      );
      if (!row) return undefined;
      await this.queue.removeShards([row.message], transaction);
      const { job, task, part, content, attempts } = row;
      return { job, task, part, attempts, content: JSON.parse(content) as unknown };
    });
  }

  /** Extends a worker's hold. @returns whether it (still) holds the shard, of a job that has not ended */
  async renew(shard: HeldShard, worker: string): Promise<boolean> {
    return this.#update(this.database, shard, worker, `lease_until = clock_timestamp() + $5 * interval '1 second'`, [
      this.leaseSeconds,
    ]);
  }

  /** Keeps the result of a shard. @returns whether the worker still held it; else nothing is kept */
  async complete(shard: HeldShard, worker: string, value: unknown): Promise<boolean> {
    const lost = new HeartwoodError('CANCELLED', 'the shard is no longer held');
    try {
      await this.checkpoints.writeWhen(shard.job, resultStage(shard.task, shard.part), value, async (transaction) => {
        const set = `state = 'done', worker = NULL, lease_until = NULL`;
        if (!(await this.#update(transaction, shard, worker, set))) throw lost;
      });
      return true;
    } catch (error) {
      if (error === lost) return false;
      throw error;
    }
  }

  /** Queues a shard whose work failed, for another attempt; the last one ends it. */
  async fail(shard: HeldShard, worker: string, error: { code: ErrorCode; message: string }): Promise<void> {
    const last = shard.attempts >= this.maxAttempts;
    const set = `state = $5, worker = NULL, lease_until = NULL, error_code = $6, error_message = $7`;
    await this.#requeue(shard, worker, set, [last ? 'failed' : 'queued', error.code, error.message], !last);
  }

  /** Gives a shard back as if it had not been taken. */
  async release(shard: HeldShard, worker: string): Promise<void> {
    const set = `state = 'queued', worker = NULL, lease_until = NULL, attempts = attempts - 1`;
    await this.#requeue(shard, worker, set, [], true);
  }

  /** Queues again what dead workers held, whoever they were; what was taken too often already fails. @returns how many were lost */
  async reclaim(): Promise<number> {
    return this.database.transaction(async (transaction) => {
      const rows = await transaction.query<{ message: string; state: ShardState }>(
        `UPDATE heartwood.shards SET worker = NULL, lease_until = NULL, message = gen_random_uuid(),
         state = CASE WHEN attempts >= $1 THEN 'failed' ELSE 'queued' END,
         error_code = 'INTERNAL', error_message = 'its worker died (is there enough memory for it?)'
         WHERE state = 'running' AND lease_until < clock_timestamp() RETURNING message, state`,
        [this.maxAttempts],
      );
      const waiting = rows.filter(({ state }) => state === 'queued');
      await this.queue.sendShards(
        waiting.map(({ message }) => message),
        transaction,
      );
      return rows.length;
    });
  }

  async progress(job: string, task: string): Promise<TaskProgress> {
    const rows = await this.database.query<{
      part: number;
      state: ShardState;
      attempts: number;
      error_code: ErrorCode | null;
      error_message: string | null;
    }>(
      `SELECT part, state, attempts, error_code, error_message FROM heartwood.shards
       WHERE job = $1 AND task = $2 AND state IN ('done', 'failed') ORDER BY part`,
      [job, task],
    );
    const failed = rows.find(({ state }) => state === 'failed');
    return {
      done: rows.filter(({ state }) => state === 'done').length,
      failed: failed && {
        part: failed.part,
        attempts: failed.attempts,
        error: new HeartwoodError(failed.error_code ?? 'INTERNAL', failed.error_message ?? 'failed'),
      },
    };
  }

  /** The result of a shard that is done; undefined when there is none that is whole. */
  result(job: string, task: string, part: number): Promise<{ value: unknown } | undefined> {
    return this.checkpoints.read(job, resultStage(task, part));
  }

  /** Forgets the shards of a job, their messages and their results. */
  async clear(job: string): Promise<void> {
    await this.database.transaction(async (transaction) => {
      const rows = await transaction.query<{ message: string }>(
        'DELETE FROM heartwood.shards WHERE job = $1 RETURNING message',
        [job],
      );
      await transaction.query('DELETE FROM heartwood.checkpoints WHERE job = $1 AND starts_with(stage, $2)', [
        job,
        resultPrefix,
      ]);
      await this.queue.removeShards(
        rows.map(({ message }) => message),
        transaction,
      );
    });
  }

  /** Forgets those of jobs that have ended while nobody was there to forget them. */
  async sweep(): Promise<void> {
    const rows = await this.database.query<{ job: string }>(
      `SELECT DISTINCT shard.job FROM heartwood.shards AS shard JOIN heartwood.jobs AS job ON job.id = shard.job
       WHERE job.state NOT IN ('queued', 'running')`,
    );
    for (const { job } of rows) await this.clear(job);
  }

  /** How many shards of jobs that have not ended are in each state. */
  async count(): Promise<Record<ShardState, number>> {
    const rows = await this.database.query<{ state: ShardState; count: number }>(
      'SELECT state, count(*)::integer AS count FROM heartwood.shards GROUP BY state',
    );
    const counts = Object.fromEntries(SHARD_STATES.map((state) => [state, 0])) as Record<ShardState, number>;
    for (const row of rows) counts[row.state] = row.count;
    return counts;
  }

  async #requeue(
    shard: HeldShard,
    worker: string,
    set: string,
    values: readonly unknown[],
    announce: boolean,
  ): Promise<void> {
    const message = randomUUID();
    await this.database.transaction(async (transaction) => {
      const held = await this.#update(transaction, shard, worker, `${set}, message = '${message}'`, values);
      if (held && announce) await this.queue.sendShards([message], transaction);
    });
  }

  async #update(
    executor: Executor,
    { job, task, part }: HeldShard,
    worker: string,
    set: string,
    values: readonly unknown[] = [],
  ): Promise<boolean> {
    const rows = await executor.query(
      `UPDATE heartwood.shards SET ${set} WHERE job = $1 AND task = $2 AND part = $3 AND worker = $4 AND state = 'running'
       RETURNING part`,
      [job, task, part, worker, ...values],
    );
    return rows.length > 0;
  }
}

function resultStage(task: string, part: number): string {
  return `${resultPrefix}${task}/${part}`;
}
