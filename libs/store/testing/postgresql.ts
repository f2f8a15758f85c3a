import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { accessSync, chownSync, constants, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { freePort } from './free-port.js';

/** A PostgreSQL server of the test's own. */
export interface TestPostgresql {
  readonly url: string;
  /** Ends the server and deletes its data. */
  stop(): Promise<void>;
}

/** Folder of PostgreSQL's programs: on the path, or where Debian's package puts them; undefined when it is not installed. */
export function findPostgresql(): string | undefined {
  const debian = '/usr/lib/postgresql';
  const versions = (() => {
    try {
      return readdirSync(debian).sort((a, b) => Number(b) - Number(a));
    } catch {
      return [];
    }
  })();
  const folders = [
    ...versions.map((version) => join(debian, version, 'bin')),
    ...(process.env['PATH'] ?? '').split(':'),
  ];
  return folders.find((folder) => isExecutable(join(folder, 'initdb')) && isExecutable(join(folder, 'postgres')));
}

/** Starts a server on a free port with its data in a temporary folder; PostgreSQL refuses to run as root, so then as `postgres`. */
export async function startPostgresql(binaries: string): Promise<TestPostgresql> {
  const directory = mkdtempSync(join(tmpdir(), 'heartwood-postgresql-'));
  const data = join(directory, 'data');
  const root = userInfo().uid === 0;
  if (root) {
    const [uid, gid] = ['-u', '-g'].map((flag) => Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8' })));
    chownSync(directory, uid!, gid!);
  }
  const command = (program: string, parameters: string[]): [string, string[]] =>
    root
      ? ['runuser', ['-u', 'postgres', '--', join(binaries, program), ...parameters]]
      : [join(binaries, program), parameters];
  const options = { cwd: directory, stdio: ['ignore', 'pipe', 'pipe'] as ['ignore', 'pipe', 'pipe'] };
  const [initdb, parameters] = command('initdb', [
    '-D',
    data,
    '-U',
    'heartwood',
    '-A',
    'trust',
    '--no-sync',
    '-E',
    'UTF8',
  ]);
  execFileSync(initdb, parameters, options);
  const port = await freePort();
  const settings = {
    listen_addresses: '127.0.0.1',
    port,
    unix_socket_directories: directory,
    fsync: 'off',
    shared_buffers: '16MB',
  };
  const flags = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
  const server = spawn(...command('postgres', ['-D', data, ...flags]), options);
  try {
    await ready(server);
  } catch (error) {
    rmSync(directory, { recursive: true, force: true });
    throw error;
  }
  return {
    url: `postgres://heartwood@127.0.0.1:${port}/postgres`,
    async stop() {
      const ended = new Promise((resolve) => server.once('close', resolve));
      // SIGINT is its "fast shutdown", which does not wait for clients; runuser hands SIGTERM only to its child.
      if (root) execFileSync(...command('pg_ctl', ['stop', '-D', data, '-m', 'immediate', '-s']), options);
      else server.kill('SIGINT');
      await ended;
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

function ready(server: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    let log = '';
    server.stderr!.on('data', (chunk: Buffer) => {
      log += chunk.toString();
      if (log.includes('ready to accept connections')) resolve();
    });
    server.once('close', () => reject(new Error(`PostgreSQL did not start: ${log}`)));
  });
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
