import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { HeartwoodError } from '../../errors/error.js';
import { findPostgresql, startPostgresql, type TestPostgresql } from '../testing/postgresql.js';
import { silentProxy } from '../testing/silent-proxy.js';
import type { Database } from './database.js';
import { persist } from './persist.js';
import { openPostgresql } from './postgresql.js';

const binaries = findPostgresql();
/** Long enough for a statement on a machine with other work; each silence below lasts as long. */
const patience = { connectMs: 2000, statementMs: 2000 };

describe(
  'a network that goes silent between us and PostgreSQL',
  { skip: binaries ? false : 'PostgreSQL is not installed (apt-get install postgresql)' },
  () => {
    let server: TestPostgresql;
    let direct: Database;
    before(async () => {
      server = await startPostgresql(binaries!);
      direct = await openPostgresql(server.url, { statementMs: 20_000 });
      await direct.query(
        'CREATE TABLE things (id integer PRIMARY KEY, count integer); INSERT INTO things VALUES (1, 0)',
      );
    });
    after(async () => {
      await direct.close();
      await server.stop();
    });

    const through = async (): Promise<{ database: Database; proxy: Awaited<ReturnType<typeof silentProxy>> }> => {
      const url = new URL(server.url);
      const proxy = await silentProxy(Number(url.port));
      url.port = String(proxy.port);
      return { database: await openPostgresql(url.href, patience), proxy };
    };

    test('is noticed by the time a statement may take, and left behind when it is mended', async () => {
      const { database, proxy } = await through();
      proxy.silence();
      // One on the connection that was there, one on a new one.
      for (const what of [/read timeout/, /timeout/]) {
        await assert.rejects(database.query('SELECT 1'), { code: 'UNAVAILABLE', message: what });
      }
      proxy.restore();
      assert.deepEqual(await database.query('SELECT 2 AS two'), [{ two: 2 }]);
      proxy.close();
      await database.close();
    });

    test('leaves no lock of a transaction that it cut in two', async () => {
      const { database, proxy } = await through();
      const cut = database.transaction(async (transaction) => {
        await transaction.query('UPDATE things SET count = count + 1 WHERE id = 1');
        proxy.silence();
        await transaction.query('UPDATE things SET count = count + 1 WHERE id = 1');
      });
      await assert.rejects(cut, { code: 'UNAVAILABLE' });
      // Waits for the row until the server has ended the other session.
      const [row] = await direct.query<{ count: number }>(
        'UPDATE things SET count = count + 10 WHERE id = 1 RETURNING count',
      );
      assert.equal(row?.count, 10, 'all of it was rolled back');
      proxy.close();
      await database.close();
    });

    test('is waited out by what persists, and by nothing else', async () => {
      const { database, proxy } = await through();
      proxy.silence();
      let tries = 0;
      const counted = () => {
        // Mended after the second failure.
        if (++tries === 3) proxy.restore();
        return database.query<{ one: number }>('SELECT 1 AS one');
      };
      assert.deepEqual(await persist(counted, () => true), [{ one: 1 }]);
      assert.ok(tries >= 3, `${tries} tries`);
      const defect = new HeartwoodError('INTERNAL', 'a defect');
      await assert.rejects(
        persist(
          () => Promise.reject(defect),
          () => true,
        ),
        defect,
      );
      proxy.silence();
      await assert.rejects(
        persist(
          () => database.query('SELECT 1'),
          () => false,
        ),
        { code: 'UNAVAILABLE' },
      );
      proxy.close();
      await database.close();
    });
  },
);
