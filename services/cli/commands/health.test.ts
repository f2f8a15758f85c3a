import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { after, test } from 'node:test';
import { makeAuthority, withoutOpenssl } from '../../grpc/testing/certificates.js';
import { keptLog } from '../../grpc/testing/kept-log.js';
import { liveServer } from '../../server/testing/live-server.js';
import { runCommand } from '../run.js';

const folder = mkdtempSync(join(tmpdir(), 'heartwood-health-'));
after(() => rmSync(folder, { recursive: true, force: true }));

/** Runs `heartwood health …`: its exit code, and what it said on both outputs together. */
async function health(...options: string[]): Promise<{ code: number; said: string }> {
  let said = '';
  const sink = () =>
    new Writable({
      write(chunk: Buffer, _encoding, done) {
        said += chunk.toString();
        done();
      },
    });
  const context = { stdout: sink(), stderr: sink(), signal: new AbortController().signal };
  return { code: await runCommand(['health', ...options], context), said };
}

test('health says how a service, a model and a version are, and ends in 0 only for SERVING', async () => {
  const live = await liveServer();
  try {
    const at = (...more: string[]) => health('--address', live.address, ...more);
    assert.deepEqual(await at(), { code: 0, said: `${live.address}: SERVING\n` });
    assert.deepEqual(await at('--service', 'net/1'), { code: 0, said: `${live.address} net/1: SERVING\n` });
    const unknown = await at('--service', 'nothing');
    assert.equal(unknown.code, 1);
    assert.match(unknown.said, /heartwood: not healthy: .* nothing: SERVICE_UNKNOWN\n$/);
    assert.equal((await at('--service', 'net', '--timeout-ms', '0')).code, 2);
  } finally {
    await live.stop();
  }
  const gone = await health('--address', live.address);
  assert.equal(gone.code, 1);
  assert.match(gone.said, /heartwood: not healthy: .*: UNREACHABLE \(.+\)\n$/);
});

test('an address with a port that there cannot be is bad input', async () => {
  for (const port of ['99999', '0']) {
    const { code, said } = await health('--address', `127.0.0.1:${port}`);
    assert.equal(code, 2, said);
    assert.match(said, /^heartwood: 127\.0\.0\.1:\S*: expected host:port .*\n$/);
  }
});

test('the switches of TLS are read from the environment by what they say', { skip: withoutOpenssl }, async () => {
  const authority = makeAuthority(folder, 'of-switches');
  const server = authority.issue('plain');
  const { logger } = keptLog();
  const plain = await liveServer();
  const live = await liveServer({ tlsCert: server.cert, tlsKey: server.key }, { tlsCa: authority.cert }, logger);
  const variables = ['HEARTWOOD_HEALTH_TLS', 'HEARTWOOD_HEALTH_NO_TLS_VERIFY'] as const;
  try {
    for (const variable of variables) {
      for (const [said, tls] of [
        ['true', true],
        ['1', true],
        ['false', false],
        ['0', false],
        ['', false],
      ] as const) {
        process.env[variable] = said;
        assert.equal((await health('--address', plain.address)).code, tls ? 1 : 0, `${variable}=${said}`);
      }
      process.env[variable] = 'perhaps';
      const { code, said } = await health('--address', plain.address);
      assert.equal(code, 2);
      assert.match(said, new RegExp(`${variable}: expected true or false, got "perhaps"`));
      delete process.env[variable];
    }
    process.env.HEARTWOOD_HEALTH_NO_TLS_VERIFY = 'true';
    assert.equal((await health('--address', live.address)).code, 0);
    process.env.HEARTWOOD_HEALTH_NO_TLS_VERIFY = 'false';
    assert.equal((await health('--address', live.address, '--tls')).code, 1, 'not of a usual authority');
  } finally {
    for (const variable of variables) delete process.env[variable];
    await Promise.all([live.stop(), plain.stop()]);
  }
});

test('health of a service with TLS: by its authority, its name, and unseen', { skip: withoutOpenssl }, async () => {
  const authority = makeAuthority(folder, 'authority');
  const server = authority.issue('server');
  const probe = authority.issue('probe');
  const mutual = { tlsCert: server.cert, tlsKey: server.key, tlsClientCa: authority.cert };
  const shown = { tlsCa: authority.cert, tlsCert: probe.cert, tlsKey: probe.key };
  const { logger } = keptLog();
  const live = await liveServer(mutual, shown, logger);
  try {
    const at = (...more: string[]) => health('--address', live.address, ...more);
    const own = ['--tls-cert', probe.cert, '--tls-key', probe.key];
    assert.equal((await at('--tls-ca', authority.cert, ...own)).code, 0);
    assert.equal((await at('--tls-ca', authority.cert, '--tls-server-name', 'another', ...own)).code, 1);
    assert.equal((await at('--no-tls-verify', ...own)).code, 0, 'whoever it is');
    assert.equal((await at(...own)).code, 1, 'not of a usual authority');
    assert.equal((await at('--tls-ca', authority.cert)).code, 1, 'a probe shows who it is as well');
    assert.equal((await at()).code, 1);
    assert.equal((await at('--no-tls-verify', '--tls-ca', authority.cert)).code, 2);
  } finally {
    await live.stop();
  }
});
