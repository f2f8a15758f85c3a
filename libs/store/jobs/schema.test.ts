import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { Database } from '../database/database.js';
import { openEmbedded } from '../database/embedded.js';
import { createJobTables } from './schema.js';

const root = mkdtempSync(join(tmpdir(), 'heartwood-schema-'));
let database: Database;
before(async () => {
  database = await openEmbedded(root);
});
after(async () => {
  await database.close();
  rmSync(root, { recursive: true, force: true });
});

for (const [what, made] of [
  ['a table of jobs that is another', 'CREATE TABLE heartwood.jobs (id uuid PRIMARY KEY, name text)'],
  ['a view of that name', 'CREATE VIEW heartwood.jobs AS SELECT 1 AS id'],
  [
    'a table of shards that is another',
    'CREATE TABLE heartwood.shards (state text, part integer); INSERT INTO heartwood.shards VALUES (1, 1)',
  ],
] as const)
  test(`${what} is refused with the database and what to do, and left as it is`, async () => {
    const [row] = await database.query<{ name: string }>('SELECT current_database() AS name');
    await database.query(`CREATE SCHEMA heartwood; ${made}`);
    const tables = () =>
      database.query(
        `SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'heartwood' ORDER BY 1, 2`,
      );
    const there = await tables();
    await assert.rejects(createJobTables(database), {
      code: 'FAILED_PRECONDITION',
      message: new RegExp(`^database ${row!.name}: the tables in its schema "heartwood" .* name another database`),
    });
    assert.deepEqual(await tables(), there);
    await database.query('DROP SCHEMA heartwood CASCADE');
  });

test('tables that are there already are left as they are', async () => {
  await createJobTables(database);
  await database.query(
    `INSERT INTO heartwood.jobs (id, request_id, request) VALUES ('00000000-0000-0000-0000-000000000001', 'r', '{}')`,
  );
  await createJobTables(database);
  assert.equal((await database.query('SELECT id FROM heartwood.jobs')).length, 1);
});
