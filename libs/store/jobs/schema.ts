import { HeartwoodError, messageOf } from '../../errors/error.js';
import type { Database } from '../database/database.js';

// Documents are kept as text rather than jsonb: what is read back is what was written, digit by digit, whatever the driver.
const TABLES = `
CREATE SCHEMA IF NOT EXISTS heartwood;
CREATE TABLE IF NOT EXISTS heartwood.jobs (
  id uuid PRIMARY KEY,
  sequence bigint GENERATED ALWAYS AS IDENTITY,
  request_id text NOT NULL UNIQUE,
  request text NOT NULL,
  state text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
  stages text NOT NULL DEFAULT '[]',
  result text,
  error_code text,
  error_message text,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  started_at timestamptz,
  ended_at timestamptz,
  attempts integer NOT NULL DEFAULT 0,
  deaths integer NOT NULL DEFAULT 0,
  revision integer NOT NULL DEFAULT 0,
  worker text,
  lease_until timestamptz
);
CREATE INDEX IF NOT EXISTS jobs_by_sequence ON heartwood.jobs (sequence);
CREATE INDEX IF NOT EXISTS jobs_unfinished ON heartwood.jobs (lease_until) WHERE state IN ('queued', 'running');
CREATE TABLE IF NOT EXISTS heartwood.checkpoints (
  job uuid NOT NULL REFERENCES heartwood.jobs (id) ON DELETE CASCADE,
  stage text NOT NULL,
  part integer NOT NULL,
  content bytea NOT NULL,
  PRIMARY KEY (job, stage, part)
);
CREATE TABLE IF NOT EXISTS heartwood.shards (
  job uuid NOT NULL REFERENCES heartwood.jobs (id) ON DELETE CASCADE,
  task text NOT NULL,
  part integer NOT NULL,
  content text NOT NULL,
  state text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'running', 'done', 'failed')),
  message uuid NOT NULL,
  attempts integer NOT NULL DEFAULT 0,
  worker text,
  lease_until timestamptz,
  error_code text,
  error_message text,
  PRIMARY KEY (job, task, part)
);
CREATE INDEX IF NOT EXISTS shards_unfinished ON heartwood.shards (state) WHERE state IN ('queued', 'running');`;

/** What is read and written of them; fails where tables of these names are others. */
const LOOK = `
SELECT id, sequence, request_id, request, state, stages, result, error_code, error_message, created_at, started_at, ended_at, attempts, deaths,
  revision, worker, lease_until FROM heartwood.jobs LIMIT 0;
SELECT job, stage, part, content FROM heartwood.checkpoints LIMIT 0;
SELECT job, task, part, content, state, message, attempts, worker, lease_until, error_code, error_message FROM heartwood.shards LIMIT 0;`;

/** What PostgreSQL calls a column that is not there, a name that is not a table's, and a key or a type that does not go with ours. */
const OTHERS = new Set(['42703', '42809', '42830', '42804']);

/**
 * Makes the tables of jobs, checkpoints and shards where they are missing. Safe when several processes start at once.
 * @throws HeartwoodError FAILED_PRECONDITION naming the database where other tables have their names
 */
export async function createJobTables(database: Database): Promise<void> {
  try {
    await database.transaction(async (transaction) => {
      // CREATE ... IF NOT EXISTS by itself fails when two sessions run it at the same moment.
      await transaction.query(`SELECT pg_advisory_xact_lock(hashtext('heartwood.jobs'))`);
      await transaction.query(TABLES);
      await transaction.query(LOOK);
    });
  } catch (error) {
    if (!OTHERS.has(String((error as { code?: unknown }).code))) throw error;
    const [row] = await database.query<{ name: string }>('SELECT current_database() AS name');
    throw new HeartwoodError(
      'FAILED_PRECONDITION',
      `database ${row?.name}: the tables in its schema "heartwood" are not those of this version (${messageOf(error)}); ` +
        'name another database, or rename or drop that schema',
      { cause: error },
    );
  }
}
