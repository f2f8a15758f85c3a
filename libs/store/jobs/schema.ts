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

/** Makes the tables of jobs, checkpoints and shards where they are missing. Safe when several processes start at once. */
export async function createJobTables(database: Database): Promise<void> {
  await database.transaction(async (transaction) => {
    // CREATE ... IF NOT EXISTS by itself fails when two sessions run it at the same moment.
    await transaction.query(`SELECT pg_advisory_xact_lock(hashtext('heartwood.jobs'))`);
    await transaction.query(TABLES);
  });
}
