import { randomUUID } from 'node:crypto';
import { type ErrorCode, HeartwoodError, invalid } from '../../errors/error.js';
import type { Database, Executor } from '../database/database.js';
import { canonicalJson } from './canonical-json.js';
import { hasEnded, JOB_STATES, type JobRecord, type JobState, type StageStatus } from './job.js';
import { type JobRow, toRecord } from './job-row.js';
import type { JobQueue } from './job-queue.js';

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** SQL: words that name the stage that a job was in, as its row tells it. */
const lastStage = `coalesce((SELECT ', last in ' || (stage ->> 'name') FROM jsonb_array_elements(stages::jsonb) AS stage
  WHERE stage ->> 'state' = 'running' LIMIT 1), '')`;

/** The jobs in the database. What a worker writes holds only while it holds the job: of two, the one that lost it changes nothing. */
export class JobStore {
  constructor(
    private readonly database: Database,
    private readonly queue: JobQueue,
    private readonly leaseSeconds: number,
  ) {}

  /**
   * Queues a job. With a request id that is known the job that has it, provided it was for an equal request.
   * @throws HeartwoodError ALREADY_EXISTS
   */
  async create(
    request: unknown,
    stages: readonly StageStatus[],
    requestId = '',
  ): Promise<{ job: JobRecord; created: boolean }> {
    const id = randomUUID();
    const text = canonicalJson(request);
    return this.database.transaction(async (transaction) => {
      const [inserted] = await transaction.query<JobRow>(
        `INSERT INTO heartwood.jobs (id, request_id, request, stages) VALUES ($1, $2, $3, $4)
         ON CONFLICT (request_id) DO NOTHING RETURNING *`,
        [id, requestId || id, text, JSON.stringify(stages)],
      );
      if (inserted) {
        await this.queue.send(id, transaction);
        return { job: toRecord(inserted), created: true };
      }
      const [row] = await transaction.query<JobRow>('SELECT * FROM heartwood.jobs WHERE request_id = $1', [requestId]);
      if (row?.request !== text)
        throw new HeartwoodError(
          'ALREADY_EXISTS',
          `request_id: ${JSON.stringify(requestId)} was used for another request`,
        );
      return { job: toRecord(row), created: false };
    });
  }

  /** @throws HeartwoodError INVALID_ARGUMENT for what is no id; NOT_FOUND */
  async get(id: string): Promise<JobRecord> {
    const [row] = await this.database.query<JobRow>('SELECT * FROM heartwood.jobs WHERE id = $1', [checkId(id)]);
    if (!row) throw new HeartwoodError('NOT_FOUND', `job ${id}: no such job`);
    return toRecord(row);
  }

  /** Jobs, newest first. @param before only those created before the one with this `sequence` */
  async list(options: { states?: readonly JobState[]; limit: number; before?: string }): Promise<JobRecord[]> {
    const states = options.states?.length ? options.states : JOB_STATES;
    const rows = await this.database.query<JobRow>(
      `SELECT * FROM heartwood.jobs WHERE state = ANY($1::text[]) AND ($2::bigint IS NULL OR sequence < $2::bigint)
       ORDER BY sequence DESC LIMIT $3`,
      [[...states], options.before ?? null, options.limit],
    );
    return rows.map(toRecord);
  }

  /** How many jobs there are in each state. */
  async count(): Promise<Record<JobState, number>> {
    const rows = await this.database.query<{ state: JobState; count: number }>(
      'SELECT state, count(*)::integer AS count FROM heartwood.jobs GROUP BY state',
    );
    const counts = Object.fromEntries(JOB_STATES.map((state) => [state, 0])) as Record<JobState, number>;
    for (const row of rows) counts[row.state] = row.count;
    return counts;
  }

  /** Ends a job that has not ended; its worker finds out by itself. @returns the job as it then is */
  async cancel(id: string): Promise<JobRecord> {
    const [row] = await this.database.query<JobRow>(
      `UPDATE heartwood.jobs SET state = 'cancelled', ended_at = clock_timestamp(), worker = NULL, lease_until = NULL,
       revision = revision + 1 WHERE id = $1 AND state IN ('queued', 'running') RETURNING *`,
      [checkId(id)],
    );
    return row ? toRecord(row) : this.get(id);
  }

  /** Takes a queued job for a worker; undefined when it is not queued (any more). */
  async claim(id: string, worker: string): Promise<JobRecord | undefined> {
    const [row] = await this.database.query<JobRow>(
      `UPDATE heartwood.jobs SET state = 'running', worker = $2, lease_until = clock_timestamp() + $3 * interval '1 second',
       started_at = coalesce(started_at, clock_timestamp()), attempts = attempts + 1, revision = revision + 1
       WHERE id = $1 AND state = 'queued' RETURNING *`,
      [id, worker, this.leaseSeconds],
    );
    return row && toRecord(row);
  }

  /** Extends a worker's hold on its job. @returns whether it (still) holds it */
  async renew(id: string, worker: string): Promise<boolean> {
    return this.#update(id, worker, `lease_until = clock_timestamp() + $3 * interval '1 second'`, [this.leaseSeconds]);
  }

  /** Records how far the stages are. @param completed whether one was completed since, which shows that the job gets on */
  async saveStages(id: string, worker: string, stages: readonly StageStatus[], completed: boolean): Promise<boolean> {
    const set = `stages = $3, deaths = CASE WHEN $4 THEN 0 ELSE deaths END, revision = revision + 1`;
    return this.#update(id, worker, set, [JSON.stringify(stages), completed]);
  }

  async succeed(id: string, worker: string, stages: readonly StageStatus[], result: unknown): Promise<boolean> {
    return this.#end(id, worker, 'succeeded', stages, [JSON.stringify(result ?? null), null, null]);
  }

  async fail(
    id: string,
    worker: string,
    stages: readonly StageStatus[],
    error: { code: ErrorCode; message: string },
  ): Promise<boolean> {
    return this.#end(id, worker, 'failed', stages, [null, error.code, error.message]);
  }

  /** Gives a job back, to be gone on with by whoever comes next. */
  async release(id: string, worker: string, stages: readonly StageStatus[]): Promise<boolean> {
    return this.database.transaction(async (transaction) => {
      const rows = await transaction.query(
        `UPDATE heartwood.jobs SET state = 'queued', worker = NULL, lease_until = NULL, stages = $3, revision = revision + 1
         WHERE id = $1 AND worker = $2 AND state = 'running' RETURNING id`,
        [id, worker, JSON.stringify(stages)],
      );
      if (rows.length > 0) await this.queue.send(id, transaction);
      return rows.length > 0;
    });
  }

  /**
   * Queues again the jobs whose worker died: whose lease ran out, or, when no other process can be at work, all that are running.
   * A job whose worker died `maxDeaths` times in a row without completing a stage fails instead.
   */
  async reclaim(options: { all: boolean; maxDeaths: number }): Promise<string[]> {
    const lost = `state = 'running' AND ($1 OR lease_until < clock_timestamp())`;
    return this.database.transaction(async (transaction) => {
      await transaction.query(
        `UPDATE heartwood.jobs SET state = 'failed', error_code = 'INTERNAL', worker = NULL, lease_until = NULL,
         error_message = 'the worker died ' || (deaths + 1) || ' times in a row without completing a stage'
           || ${lastStage} || ' (is there enough memory for it?)', deaths = deaths + 1,
         ended_at = clock_timestamp(), revision = revision + 1 WHERE ${lost} AND deaths + 1 >= $2`,
        [options.all, options.maxDeaths],
      );
      const rows = await transaction.query<{ id: string }>(
        `UPDATE heartwood.jobs SET state = 'queued', worker = NULL, lease_until = NULL, deaths = deaths + 1,
         revision = revision + 1 WHERE ${lost} RETURNING id`,
        [options.all],
      );
      for (const { id } of rows) await this.queue.send(id, transaction);
      return rows.map(({ id }) => id);
    });
  }

  /** Announces every queued job again, in case its message was lost. */
  async announceQueued(): Promise<void> {
    const rows = await this.database.query<{ id: string }>(
      `SELECT id FROM heartwood.jobs WHERE state = 'queued' ORDER BY sequence`,
    );
    for (const { id } of rows) await this.queue.send(id);
  }

  /** Those of some ids whose jobs have ended or are not there at all. */
  async ended(ids: readonly string[]): Promise<string[]> {
    const known = ids.filter((id) => UUID.test(id));
    const rows = await this.database.query<{ id: string; state: JobState }>(
      'SELECT id, state FROM heartwood.jobs WHERE id = ANY($1::uuid[])',
      [known],
    );
    const living = new Set(rows.filter(({ state }) => !hasEnded(state)).map(({ id }) => id));
    return known.filter((id) => !living.has(id));
  }

  #end(
    id: string,
    worker: string,
    state: JobState,
    stages: readonly StageStatus[],
    outcome: unknown[],
  ): Promise<boolean> {
    const set = `state = $3, stages = $4, result = $5, error_code = $6, error_message = $7, worker = NULL, lease_until = NULL,
      ended_at = clock_timestamp(), revision = revision + 1`;
    return this.#update(id, worker, set, [state, JSON.stringify(stages), ...outcome]);
  }

  async #update(
    id: string,
    worker: string,
    set: string,
    values: unknown[],
    executor: Executor = this.database,
  ): Promise<boolean> {
    const rows = await executor.query(
      `UPDATE heartwood.jobs SET ${set} WHERE id = $1 AND worker = $2 AND state = 'running' RETURNING id`,
      [id, worker, ...values],
    );
    return rows.length > 0;
  }
}

function checkId(id: string): string {
  if (!UUID.test(id)) throw invalid(`id: expected the id of a job (a UUID), got ${JSON.stringify(id.slice(0, 60))}`);
  return id;
}
