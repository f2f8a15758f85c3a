/** The command line as a process: signals, exit codes, and what goes where. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Repository } from '../libs/store/repository.js';
import { meanModel, publishGraph } from '../services/server/testing/fixture-models.js';
import { temporaryRepository } from '../services/server/testing/temporary-repository.js';

let repository: Repository;
let remove: () => Promise<void>;
before(async () => {
  ({ repository, remove } = await temporaryRepository());
  await publishGraph(repository, 'net', meanModel());
});
after(() => remove());

const main = fileURLToPath(new URL('../services/cli/main.js', import.meta.url));

function start(argv: readonly string[], environment: Record<string, string> = {}) {
  const child = spawn(process.execPath, [main, ...argv], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, HEARTWOOD_DEBUG: '', ...environment },
  });
  const text = { out: '', err: '' };
  child.stdout.on('data', (chunk: Buffer) => (text.out += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (text.err += chunk.toString()));
  const ended = once(child, 'close').then(([code]) => ({ code: code as number | null, ...text }));
  return { child, text, ended };
}

test('Ctrl-C stops a service, which cleans up and ends with 130; SIGTERM ends it with 0', async () => {
  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 0],
  ] as const) {
    const options = ['--host', '127.0.0.1', '--port', '0', '--metrics-port', '0'];
    const { child, text, ended } = start(['serve', '--repository', repository.directory, ...options]);
    while (!text.err.includes('"event":"ready"') && child.exitCode === null) await once(child.stderr, 'data');
    child.kill(signal);
    const result = await ended;
    assert.equal(result.code, code, result.err);
    assert.match(result.err, /"event":"stopped"/);
    assert.equal(result.out, '');
  }
});

test('bad input is one line on stderr, with a stack only where it is asked for', async () => {
  const argv = ['list', '--repository', `${repository.directory}/absent`];
  const plain = await start(argv).ended;
  assert.equal(plain.code, 2);
  assert.match(plain.err, /^heartwood: repository [^\n]+absent: expected a folder\n$/);
  const debug = await start(argv, { HEARTWOOD_DEBUG: '1' }).ended;
  assert.equal(debug.code, 2);
  assert.match(debug.err, /\n {4}at /);
});

test('a result for machines is alone on stdout', async () => {
  const { code, out, err } = await start(['list', '--repository', repository.directory, '--json', '-']).ended;
  assert.deepEqual([code, err], [0, '']);
  assert.equal((JSON.parse(out) as { versions: unknown[] }).versions.length, 1);
});

const skip = existsSync('/dev/full') ? false : 'no /dev/full';
test('a result that cannot be written is a failure with its reason', { skip }, async () => {
  const full = await open('/dev/full', 'w');
  const argv = [main, 'list', '--repository', repository.directory];
  const child = spawn(process.execPath, argv, { stdio: ['ignore', full.fd, 'pipe'] });
  let err = '';
  child.stderr!.on('data', (chunk: Buffer) => (err += chunk.toString()));
  const [code] = (await once(child, 'close')) as [number | null];
  await full.close();
  assert.equal(code, 1);
  assert.match(err, /^heartwood: stdout cannot be written: ENOSPC/);
});
