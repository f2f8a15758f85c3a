import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { PGlite, type Transaction } from '@electric-sql/pglite';
import { HeartwoodError, messageOf } from '../../errors/error.js';
import { makeFolders } from '../../errors/make-folders.js';
import { lockFolder } from '../folder-lock.js';
import { exists, writeDurably } from '../durable.js';
import type { Database, Executor } from './database.js';

/** Stands in the folder once the database was made; before that a killed process may have left it half-made. */
const COMPLETE_FILE = 'database-is-complete';

/**
 * Opens PGlite, a PostgreSQL inside this process, in a folder of its own, which stays locked while it is open.
 * @throws HeartwoodError FAILED_PRECONDITION when another living process has it open; UNAVAILABLE when it cannot be opened
 */
export async function openEmbedded(directory: string): Promise<Database> {
  await makeFolders(directory);
  const lock = await lockFolder(directory);
  try {
    const files = join(directory, 'pglite');
    const complete = join(directory, COMPLETE_FILE);
    // Nothing was ever promised from a database that was not completed, so it is made anew.
    if (!(await exists(complete))) await rm(files, { recursive: true, force: true });
    const pglite = await PGlite.create(files);
    await writeDurably(complete, 'yes\n');
    return {
      embedded: true,
      ...executor(pglite),
      transaction: (work) => pglite.transaction((transaction) => work(executor(transaction))),
      async close() {
        await pglite.close();
        await lock.release();
      },
    };
  } catch (cause) {
    await lock.release();
    throw new HeartwoodError('UNAVAILABLE', `database in ${directory}: ${messageOf(cause)}`, { cause });
  }
}

function executor(pglite: PGlite | Transaction): Executor {
  return {
    async query<Row>(text: string, values?: readonly unknown[]): Promise<Row[]> {
      if (values?.length) return (await pglite.query<Row>(text, [...values])).rows;
      // The simple protocol, which takes several statements at once, as pg-boss sends when it makes its tables.
      return ((await pglite.exec(text)).at(-1)?.rows ?? []) as Row[];
    },
  };
}
