import pg from 'pg';
import { invalid } from '../../errors/error.js';
import { type Database, type Executor, isConnectionFailure, isUnavailable, unavailable } from './database.js';

/** How long to believe in a server that says nothing. A network that swallows packets is not told from one that is slow otherwise. */
export interface DatabasePatience {
  /** Milliseconds that a new connection gets (default 5000). */
  readonly connectMs?: number;
  /** Milliseconds that one statement gets; all of ours are short (default 10000). */
  readonly statementMs?: number;
}

/**
 * Connects to a PostgreSQL server by a pool.
 * @param url `postgres://user:password@host:port/database`
 * @throws HeartwoodError INVALID_ARGUMENT for a URL of another kind; UNAVAILABLE when there is no connection
 */
export async function openPostgresql(
  url: string,
  { connectMs = 5000, statementMs = 10_000 }: DatabasePatience = {},
): Promise<Database> {
  const where = describeUrl(url);
  // The server gives up as well what we gave up, so that no lock stays with a connection that is dead to us. By statements, since a
  // connection pooler in between may not let start-up options through.
  const limits = {
    statement_timeout: statementMs,
    idle_in_transaction_session_timeout: statementMs,
    tcp_user_timeout: statementMs,
    tcp_keepalives_idle: Math.ceil(statementMs / 1000),
  };
  const settings = Object.entries(limits).map(([name, value]) => `SET ${name} = ${value}`);
  const pool = new pg.Pool({
    connectionString: url,
    application_name: 'heartwood',
    max: 8,
    connectionTimeoutMillis: connectMs,
    query_timeout: statementMs,
    keepAlive: true,
    // What the pool waits for before it hands the connection out.
    onConnect: (client) =>
      client.query(settings.join('; ')).catch((error: unknown) => {
        // A server that does not know one of them serves all the same.
        if (isConnectionFailure(error)) throw error;
      }) as unknown as void,
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
        // A connection that does not answer would not answer to this either; the server rolls back by itself.
        broken =
          isUnavailable(error) ||
          (await run(client, 'ROLLBACK').then(
            () => false,
            () => true,
          ));
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
