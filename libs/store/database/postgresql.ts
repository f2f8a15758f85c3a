import pg from 'pg';
import { invalid } from '../../errors/error.js';
import { type Database, type Executor, isConnectionFailure, unavailable } from './database.js';

/**
 * Connects to a PostgreSQL server by a pool.
 * @param url `postgres://user:password@host:port/database`
 * @throws HeartwoodError INVALID_ARGUMENT for a URL of another kind; UNAVAILABLE when there is no connection
 */
export async function openPostgresql(url: string): Promise<Database> {
  const where = describeUrl(url);
  const pool = new pg.Pool({
    connectionString: url,
    application_name: 'heartwood',
    max: 8,
    connectionTimeoutMillis: 10_000,
    keepAlive: true,
  });
  // An idle connection that breaks is replaced at the next query, which reports it if that fails as well.
  pool.on('error', () => undefined);
  const run = async <Row>(
    client: pg.Pool | pg.PoolClient,
    text: string,
    values?: readonly unknown[],
  ): Promise<Row[]> => {
    try {
      const result = values?.length ? await client.query(text, [...values]) : await client.query(text);
      // Several statements give several results; only the last one's rows are asked for.
      const last = Array.isArray(result) ? (result as pg.QueryResult[]).at(-1)! : result;
      return last.rows as Row[];
    } catch (error) {
      throw isConnectionFailure(error) ? unavailable(where, error) : error;
    }
  };
  const database: Database = {
    embedded: false,
    query: (text, values) => run(pool, text, values),
    async transaction<T>(work: (executor: Executor) => Promise<T>): Promise<T> {
      const client = await pool.connect().catch((error: unknown) => {
        throw unavailable(where, error);
      });
      // Without a listener, a connection that dies between two statements would take the process down.
      const ignore = () => undefined;
      client.on('error', ignore);
      let broken = false;
      try {
        await run(client, 'BEGIN');
        const result = await work({ query: (text, values) => run(client, text, values) });
        await run(client, 'COMMIT');
        return result;
      } catch (error) {
        broken = await run(client, 'ROLLBACK').then(
          () => false,
          () => true,
        );
        throw error;
      } finally {
        client.off('error', ignore);
        client.release(broken);
      }
    },
    close: () => pool.end(),
  };
  try {
    await database.query('SELECT 1');
  } catch (error) {
    await pool.end();
    throw error;
  }
  return database;
}

function describeUrl(url: string): string {
  let parsed: URL;
  try {
    parsed = new URL(url);
  } catch (cause) {
    throw invalid('database: expected a URL such as postgres://user@host:5432/name', cause);
  }
  if (!/^postgres(ql)?:$/.test(parsed.protocol))
    throw invalid(`database: expected a URL that begins with postgres://, got ${parsed.protocol}//`);
  return `${parsed.host || 'localhost'}${parsed.pathname}`;
}
