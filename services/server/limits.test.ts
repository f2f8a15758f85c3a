import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { ClientHttp2Stream } from 'node:http2';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { test } from 'node:test';
import { createClient, Status } from 'nice-grpc';
import sharp from 'sharp';
import { HealthDefinition } from '../../proto/gen/grpc/health/v1/health.js';
import { ModelInferRequest } from '../../proto/gen/open_inference_grpc.js';
import { framed, rawClient, statusOf } from '../grpc/testing/raw-client.js';
import type { ServerOptions } from './options.js';
import { liveServer, type LiveServer, pixels, rawRequest, refused, until } from './testing/live-server.js';

const INFER = '/inference.GRPCInferenceService/ModelInfer';
const STREAM = '/inference.GRPCInferenceService/ModelStreamInfer';
const infer = 'grpc_type="unary",grpc_service="inference.GRPCInferenceService",grpc_method="ModelInfer"';

async function withServer(options: Partial<ServerOptions>, work: (live: LiveServer) => Promise<void>): Promise<void> {
  const live = await liveServer(options);
  try {
    await work(live);
  } finally {
    await live.stop();
  }
}

const message = framed(ModelInferRequest.encode(ModelInferRequest.fromPartial(rawRequest(1))).finish());

/** A request that never arrives in whole. */
function half(stream: ClientHttp2Stream, bytes = message.length - 1): ClientHttp2Stream {
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(bytes + 1, 1);
  stream.write(Buffer.concat([prefix, Buffer.alloc(bytes)]));
  return stream;
}

/** A way to a port that can go dead without a word, as when a cable is pulled. */
async function breakable(port: number) {
  const sockets: Socket[] = [];
  const server = createServer((near) => {
    const far = connect(port, '127.0.0.1');
    sockets.push(near, far);
    near.on('error', () => undefined).pipe(far);
    far.on('error', () => undefined).pipe(near);
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    cut: () => sockets.forEach((socket) => socket.unpipe().pause()),
    close: () => {
      server.close();
      sockets.forEach((socket) => socket.destroy());
    },
  };
}

test('beyond the calls that are allowed the next is refused unread, health is not, and it goes on when one has ended', () =>
  withServer({ maxCalls: 3 }, async (live) => {
    const raw = await rawClient(live.address);
    const stuck = Array.from({ length: 3 }, () => half(raw.open(INFER)));
    const started = `grpc_server_started_total{${infer}}`;
    await until(async () => (await live.metric(started)) === 3);
    await refused(live.raw.modelInfer(rawRequest(1)), Status.RESOURCE_EXHAUSTED, /^3 calls are under way, which is/);
    assert.ok((await createClient(HealthDefinition, live.channel).check({})).status);
    stuck[0]!.destroy();
    await until(async () =>
      live.raw.modelInfer(rawRequest(1)).then(
        () => true,
        () => false,
      ),
    );
    raw.close();
  }));

test('beyond the number of connections one is closed as it comes, those that are there go on, and one that leaves makes room', () =>
  withServer({ maxConnections: 2 }, async (live) => {
    assert.deepEqual(await live.raw.serverLive({}), { live: true });
    const second = await rawClient(live.address);
    const third = connect(live.grpcPort, '127.0.0.1');
    third.on('error', () => undefined);
    await once(third.resume(), 'close');
    assert.deepEqual(await live.raw.serverLive({}), { live: true });
    assert.equal(await statusOf(second.open(INFER).end(message)), Status.OK);
    // The port of the metrics is another.
    assert.match(await live.metrics(), /grpc_server_started_total/);
    second.close();
    await until(async () => {
      const again = connect(live.grpcPort, '127.0.0.1');
      again.on('error', () => undefined);
      // A server of HTTP/2 greets with its settings.
      const greeted = await Promise.race([
        once(again, 'data').then(() => true),
        once(again, 'close').then(() => false),
      ]).catch(() => false);
      again.destroy();
      return greeted;
    });
  }));

test('requests that arrive in part count as bytes held: the one that goes beyond is refused, and what was held is given back', () =>
  withServer({ maxHeldBytes: 200_000 }, async (live) => {
    const raw = await rawClient(live.address);
    // They arrive interleaved: any of the four may be the one that goes beyond.
    const parts = Array.from({ length: 4 }, () => half(raw.open(INFER), 60_000));
    assert.equal(await Promise.race(parts.map(statusOf)), Status.RESOURCE_EXHAUSTED);
    raw.close();
    await until(async () =>
      live.raw.modelInfer(rawRequest(1)).then(
        () => true,
        () => false,
      ),
    );
    // What is answered is no longer held.
    for (let i = 0; i < 400; i++) await live.raw.modelInfer(rawRequest(1));
    // Nor is what a stream has handed over.
    async function* requests() {
      for (let i = 0; i < 400; i++) yield rawRequest(1);
    }
    let answers = 0;
    for await (const { errorMessage } of live.raw.modelStreamInfer(requests())) {
      assert.equal(errorMessage, '');
      answers++;
    }
    assert.equal(answers, 400);
  }));

test('a request that does not arrive in time is DEADLINE_EXCEEDED, an answer that is not taken is cut off', () =>
  withServer({ transferTimeoutMs: 1000, maxCalls: 5 }, async (live) => {
    const slow = await rawClient(live.address);
    assert.equal(await statusOf(half(slow.open(INFER))), Status.DEADLINE_EXCEEDED);
    slow.close();

    // Its answers never leave the server: each holds a call until the time is up, then the calls are free again.
    const deaf = await rawClient(live.address, 0);
    const unread = Array.from({ length: 4 }, () => deaf.open(INFER).end(message));
    unread.push(deaf.open(STREAM));
    unread[4]!.write(message);
    await Promise.all(unread.map((stream) => once(stream, 'close')));
    assert.deepEqual(await live.raw.serverLive({}), { live: true });
    assert.equal((await live.client.infer({ model: 'net', pixels: pixels(1) })).version, 2);
    deaf.close();
  }));

test('a stream whose answers are not read is not read either', () =>
  withServer({ streamWindow: 4 }, async (live) => {
    const deaf = await rawClient(live.address, 0);
    const stream = deaf.open(STREAM);
    const done = new AbortController();
    let sent = 0;
    // Far more than the buffers of the way hold.
    const pump = (async () => {
      for (; sent < 40_000 && !stream.destroyed; sent++)
        if (!stream.write(message)) await once(stream, 'drain', { signal: done.signal });
    })().catch(() => undefined);
    const taken = 'heartwood_inference_requests_total{model="net",version="2",outcome="OK"}';
    let before = -1;
    // Until neither side moves any more between two looks that lie a hundred answers to another client apart.
    for (let now = 0; now !== before; now = sent) {
      before = now;
      for (let i = 0; i < 100; i++) await live.client.infer({ model: 'net', version: 1, pixels: pixels(1) });
    }
    assert.ok(sent < 40_000, 'everything was sent');
    const answered = await live.metric(taken);
    assert.ok(answered < 1000, `${answered} answers for a client that reads none`);
    done.abort();
    deaf.close();
    await pump;
  }));

test('the limits of a connection are the ones that are set', () =>
  withServer({ maxConcurrentStreams: 7 }, async (live) => {
    const raw = await rawClient(live.address);
    assert.equal(raw.session.remoteSettings.maxConcurrentStreams, 7);
    raw.close();
  }));

test('a connection without calls is closed, one that gives no sign of life too', async () => {
  await withServer({ maxConnectionIdleMs: 300 }, async (live) => {
    const raw = await rawClient(live.address);
    // Where this process stood still meanwhile it has been told already.
    if (!raw.session.closed) await once(raw.session, 'goaway');
    raw.close();
  });
  await withServer({ keepaliveMs: 20, keepaliveTimeoutMs: 1000 }, async (live) => {
    const cable = await breakable(live.grpcPort);
    const raw = await rawClient(cable.address);
    half(raw.open(INFER));
    await until(async () => (await live.metric(`grpc_server_started_total{${infer}}`)) === 1);
    cable.cut();
    const cancelled = `grpc_server_handled_total{${infer},grpc_code="Canceled"}`;
    await until(async () => (await live.metric(cancelled)) === 1);
    raw.close();
    cable.close();
  });
});

test('the pixels of a request are limited by the setting', () =>
  withServer({ maxImagePixels: 10_000 }, async (live) => {
    const flat = (side: number) =>
      sharp({ create: { width: side, height: side, channels: 3, background: 'red' } })
        .png()
        .toBuffer();
    const [small, large] = [await flat(50), await flat(101)];
    assert.equal((await live.client.infer({ model: 'net', images: [small, small, small] })).version, 2);
    const code = { code: 'INVALID_ARGUMENT', message: /0\.0 megapixels over the 1 images .* at most 0\.01/ };
    await assert.rejects(live.client.infer({ model: 'net', images: [large] }), code);
    await assert.rejects(live.client.infer({ model: 'net', images: Array<Buffer>(5).fill(small) }), {
      code: code.code,
    });
  }));

test('calls are counted under the names of every gRPC server: started, handled by code, messages, seconds', () =>
  withServer({ maxMessageBytes: 20_000 }, async (live) => {
    const stream =
      'grpc_type="bidi_stream",grpc_service="inference.GRPCInferenceService",grpc_method="ModelStreamInfer"';
    assert.match(await live.metrics(), new RegExp(`^grpc_server_started_total\\{${stream}\\} 0$`, 'm'));
    await live.raw.modelInfer(rawRequest(1));
    await refused(live.raw.modelInfer(rawRequest(1, { modelName: 'absent' })), Status.NOT_FOUND, /absent/);
    await refused(live.raw.modelInfer({ id: 'x'.repeat(30_000) }), Status.RESOURCE_EXHAUSTED, /larger than max/);
    async function* requests() {
      for (let i = 0; i < 3; i++) yield rawRequest(1);
    }
    let answers = 0;
    for await (const _ of live.raw.modelStreamInfer(requests())) answers++;
    assert.equal(answers, 3);
    const raw = await rawClient(live.address);
    const left = half(raw.open(INFER));
    await until(async () => (await live.metric(`grpc_server_started_total{${infer}}`)) === 4);
    left.destroy();
    await until(async () => (await live.metric(`grpc_server_handled_total{${infer},grpc_code="Canceled"}`)) === 1);
    raw.close();
    const counts: Record<string, number> = {
      [`grpc_server_handled_total{${infer},grpc_code="OK"}`]: 1,
      [`grpc_server_handled_total{${infer},grpc_code="NotFound"}`]: 1,
      [`grpc_server_handled_total{${infer},grpc_code="ResourceExhausted"}`]: 1,
      [`grpc_server_handling_seconds_count{${infer}}`]: 4,
      [`grpc_server_msg_received_total{${infer}}`]: 2,
      [`grpc_server_msg_sent_total{${infer}}`]: 1,
      [`grpc_server_started_total{${stream}}`]: 1,
      [`grpc_server_handled_total{${stream},grpc_code="OK"}`]: 1,
      [`grpc_server_msg_received_total{${stream}}`]: 3,
      [`grpc_server_msg_sent_total{${stream}}`]: 3,
    };
    for (const [series, count] of Object.entries(counts)) assert.equal(await live.metric(series), count, series);
    // A method that is not there has no series: labels stay bounded.
    await refused(live.call('NoSuchMethod'), Status.UNIMPLEMENTED, /./);
    assert.doesNotMatch(await live.metrics(), /NoSuchMethod/);
  }));
