import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { connect } from 'node:tls';
import { createClient, Metadata, Status } from 'nice-grpc';
import { HealthCheckResponse_ServingStatus, HealthDefinition } from '../../proto/gen/grpc/health/v1/health.js';
import { ServerReflectionDefinition } from '../../proto/gen/grpc/reflection/v1/reflection.js';
import { GRPCInferenceServiceDefinition } from '../../proto/gen/open_inference_grpc.js';
import type { ConnectionOptions } from '../grpc/channel.js';
import { type Authority, type CertificateFiles, makeAuthority, withoutOpenssl } from '../grpc/testing/certificates.js';
import { keptLog } from '../grpc/testing/kept-log.js';
import { connectInference } from './client.js';
import type { ServerOptions } from './options.js';
import { startServer } from './server.js';
import { liveServer, type LiveServer, rawRequest, refused, until } from './testing/live-server.js';

const folder = mkdtempSync(join(tmpdir(), 'heartwood-security-'));
after(() => rmSync(folder, { recursive: true, force: true }));

/** What a client that reaches the server this way gets. */
async function reach(address: string, connection: ConnectionOptions): Promise<string> {
  const client = connectInference(address, connection);
  try {
    return (await client.modelReady('net')) ? 'ready' : 'not ready';
  } catch (error) {
    return (error as { code: string }).code;
  } finally {
    client.close();
  }
}

describe('TLS', { skip: withoutOpenssl }, () => {
  let authority: Authority;
  let stranger: Authority;
  let server: CertificateFiles;
  before(() => {
    authority = makeAuthority(folder, 'authority');
    stranger = makeAuthority(folder, 'stranger');
    server = authority.issue('server');
  });

  const serial = (port: number): Promise<string> =>
    new Promise((resolve, reject) => {
      const options = { port, host: '127.0.0.1', rejectUnauthorized: false, ALPNProtocols: ['h2'] };
      const socket = connect(options, () => {
        resolve(socket.getPeerCertificate().serialNumber);
        socket.destroy();
      }).on('error', reject);
    });

  test('encrypts: who trusts the authority is served, who speaks plainly or trusts another is not', async () => {
    const { logger, lines } = keptLog();
    const live = await liveServer({ tlsCert: server.cert, tlsKey: server.key }, { tlsCa: authority.cert }, logger);
    try {
      assert.equal(await reach(live.address, { tlsCa: authority.cert }), 'ready');
      assert.equal(await reach(live.address, {}), 'UNAVAILABLE');
      assert.equal(await reach(live.address, { tlsCa: stranger.cert }), 'UNAVAILABLE');
      const warned = lines.filter(({ level }) => level === 40).map(({ msg }) => msg);
      assert.deepEqual(warned.length, 1);
      assert.match(warned[0]!, /open to whoever reaches the port/);
    } finally {
      await live.stop();
    }
  });

  test('mutual: a client shows a certificate of the authority or is not let in', async () => {
    const mutual = { tlsCert: server.cert, tlsKey: server.key, tlsClientCa: authority.cert };
    const camera = authority.issue('camera');
    const impostor = stranger.issue('impostor');
    const shown = ({ cert, key }: CertificateFiles) => ({ tlsCa: authority.cert, tlsCert: cert, tlsKey: key });
    const { logger, lines } = keptLog();
    const live = await liveServer(mutual, shown(camera), logger);
    try {
      assert.equal(await reach(live.address, shown(camera)), 'ready');
      assert.equal(await reach(live.address, { tlsCa: authority.cert }), 'UNAVAILABLE');
      assert.equal(await reach(live.address, shown(impostor)), 'UNAVAILABLE');
      assert.ok(!lines.some(({ level }) => level >= 40));
    } finally {
      await live.stop();
    }
  });

  test('a renewed certificate is taken up while it runs, one that is no good is not', async () => {
    const own = authority.issue('renewed');
    const { logger, lines } = keptLog();
    const options = { tlsCert: own.cert, tlsKey: own.key, securityPollMs: 10 };
    const live = await liveServer(options, { tlsCa: authority.cert }, logger);
    try {
      const first = await serial(live.grpcPort);
      assert.equal((await live.raw.serverReady({})).ready, true);
      authority.issue('renewed');
      await until(async () => (await serial(live.grpcPort)) !== first);
      // The connection that was open goes on.
      assert.equal((await live.raw.serverReady({})).ready, true);
      assert.equal(await reach(live.address, { tlsCa: authority.cert }), 'ready');
      const second = await serial(live.grpcPort);
      writeFileSync(own.key, 'no key');
      await until(async () =>
        lines.some(({ reason }) => /renewed\.key: expected a private key in PEM/.test(reason ?? '')),
      );
      assert.equal(await serial(live.grpcPort), second);
      assert.equal(await reach(live.address, { tlsCa: authority.cert }), 'ready');
    } finally {
      await live.stop();
    }
  });

  test('a file that is no good is one line that names it and what was expected', async () => {
    const live = await liveServer();
    const garbage = join(folder, 'garbage.pem');
    writeFileSync(garbage, '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n');
    const absent = join(folder, 'absent.pem');
    const cases: [Partial<ServerOptions>, RegExp][] = [
      [
        { tlsCert: absent, tlsKey: server.key },
        /absent\.pem: expected a certificate chain in PEM, but it cannot be read/,
      ],
      [{ tlsCert: garbage, tlsKey: server.key }, /garbage\.pem: expected a certificate chain in PEM/],
      [{ tlsCert: server.cert, tlsKey: garbage }, /garbage\.pem: expected a private key in PEM/],
      [
        { tlsCert: server.cert, tlsKey: stranger.key },
        /stranger\.key: expected the private key of the certificate in .*server\.pem/,
      ],
      [
        { tlsCert: server.cert, tlsKey: server.key, tlsClientCa: server.key },
        /server\.key: expected certificates of authorities in PEM/,
      ],
      [{ tlsCert: server.cert }, /option --tls-key: expected a file/],
      [{ tlsClientCa: authority.cert }, /option --tls-client-ca: expected --tls-cert and --tls-key with it/],
      [{ authTokenFile: absent }, /absent\.pem: expected bearer tokens, one a line, but it cannot be read/],
      [{ authTokenFile: folder }, /expected bearer tokens, one a line, but it cannot be read/],
      [{ authToken: 'short' }, /option HEARTWOOD_AUTH_TOKEN: expected tokens of 16 or more visible ASCII characters/],
      [{ authToken: ' \n' }, /option HEARTWOOD_AUTH_TOKEN: expected a bearer token, one a line, found none/],
      [{ authToken: 'x'.repeat(16), authTokenFile: absent }, /expected one of them, got both/],
    ];
    try {
      for (const [options, message] of cases) {
        const common = { repository: live.repository.directory, host: '127.0.0.1', port: 0, metricsPort: 0 };
        await assert.rejects(startServer({ ...common, ...options }, keptLog().logger), (error: Error) => {
          assert.match(error.message, message);
          assert.doesNotMatch(error.message, /\n|short/);
          return (error as { code?: string }).code === 'INVALID_ARGUMENT';
        });
      }
      for (const connection of [{ tlsCa: absent }, { tlsCert: absent, tlsKey: absent }, { tlsCert: absent }]) {
        assert.throws(() => connectInference(live.address, connection), { code: 'INVALID_ARGUMENT' });
      }
    } finally {
      await live.stop();
    }
  });
});

describe('bearer tokens', () => {
  const tokens = ['a-token-of-the-camera', 'the-one-that-comes-next'] as const;
  const file = join(folder, 'tokens');
  let live: LiveServer;
  before(async () => {
    writeFileSync(file, `# who: the camera\n${tokens[0]}\n\n${tokens[1]}\n`);
    live = await liveServer({ authTokenFile: file, securityPollMs: 10 }, { authToken: tokens[0] });
  });
  after(() => live.stop());
  const plain = () => createClient(GRPCInferenceServiceDefinition, live.channel);
  const sent = (...values: string[]) => ({
    metadata: values.reduce((metadata, value) => metadata.append('authorization', value), Metadata()),
  });

  test('every token of the file lets a call in, whatever the case of its scheme', async () => {
    for (const token of tokens) {
      assert.equal(await reach(live.address, { authToken: token }), 'ready');
      for (const scheme of ['Bearer', 'bearer', 'BEARER ']) {
        assert.deepEqual(await plain().serverLive({}, sent(`${scheme} ${token}`)), { live: true });
      }
    }
  });

  test('none, another, or a part of one is UNAUTHENTICATED, on unary calls and streams, and nobody is told the token', async () => {
    const none = /^metadata authorization: expected "Bearer" and a token of this server, got none$/;
    const another = /^metadata authorization: expected "Bearer" and a token of this server, got another$/;
    await refused(plain().serverLive({}), Status.UNAUTHENTICATED, none);
    await refused(plain().modelInfer(rawRequest(1)), Status.UNAUTHENTICATED, none);
    const wrong = [
      `Bearer ${tokens[0]}x`,
      `Bearer ${tokens[0].slice(1)}`,
      `Bearer ${tokens[0]} ${tokens[1]}`,
      `Basic ${tokens[0]}`,
      'Bearer # who: the camera',
      'Bearer',
      tokens[0],
    ];
    for (const value of wrong) await refused(plain().serverLive({}, sent(value)), Status.UNAUTHENTICATED, another);
    const twice = sent(`Bearer ${tokens[0]}`, `Bearer ${tokens[1]}`);
    await refused(plain().serverLive({}, twice), Status.UNAUTHENTICATED, another);
    async function* requests() {
      yield rawRequest(1);
    }
    const stream = plain().modelStreamInfer(requests(), sent('Bearer wrong-wrong-wrong'));
    await refused(stream[Symbol.asyncIterator]().next(), Status.UNAUTHENTICATED, another);
    assert.equal(await reach(live.address, { authToken: 'not-a-token-of-it' }), 'UNAUTHENTICATED');
    assert.ok(
      (await live.metric(
        'grpc_server_handled_total{grpc_type="unary",grpc_service="inference.GRPCInferenceService",grpc_method="ModelInfer",grpc_code="Unauthenticated"}',
      )) >= 1,
    );
  });

  test('health needs none, reflection does', async () => {
    const { status } = await createClient(HealthDefinition, live.channel).check({});
    assert.equal(status, HealthCheckResponse_ServingStatus.SERVING);
    async function* list() {
      yield { listServices: '' };
    }
    const stream = createClient(ServerReflectionDefinition, live.channel).serverReflectionInfo(list());
    await refused(stream[Symbol.asyncIterator]().next(), Status.UNAUTHENTICATED, /got none/);
  });

  test('tokens are renewed while it runs', async () => {
    writeFileSync(file, 'a-token-from-tomorrow-on');
    await until(async () => (await reach(live.address, { authToken: 'a-token-from-tomorrow-on' })) === 'ready');
    assert.equal(await reach(live.address, { authToken: tokens[0] }), 'UNAUTHENTICATED');
  });
});

test('without any of it the log says that nothing is encrypted and that everyone is let in', async () => {
  const { logger, lines } = keptLog();
  const live = await liveServer({}, {}, logger);
  await live.stop();
  const warned = lines.filter(({ level }) => level === 40).map(({ msg }) => msg);
  assert.deepEqual(warned, [
    'gRPC is not encrypted: --tls-cert and --tls-key make it TLS',
    'gRPC is open to whoever reaches the port: --auth-token-file or --tls-client-ca ask who it is',
  ]);
});
