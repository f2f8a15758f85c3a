import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Server, ServerCredentials, type ServerReadableStream, type ServerUnaryCall } from '@grpc/grpc-js';
import { Admission } from './admission.js';
import { interceptorOf, type CallSite } from './call-layer.js';
import { framed, rawClient, statusOf } from './testing/raw-client.js';

/** As grpc-js has it. */
interface Decoder {
  readonly readState: number;
  readonly readPartialMessage: readonly Buffer[];
  readonly readCompressFlag: Buffer;
}

const same = (bytes: Buffer): Buffer => bytes;
const shape = { requestSerialize: same, requestDeserialize: same, responseSerialize: same, responseDeserialize: same };
const methods = {
  one: { path: '/parts/One', requestStream: false, responseStream: false, ...shape },
  many: { path: '/parts/Many', requestStream: true, responseStream: false, ...shape },
};

let server: Server;
let address: string;
const decoders: Decoder[] = [];
let received: Buffer[] = [];

before(async () => {
  const admission = new Admission({ maxCalls: 8, maxHeldBytes: 1 << 30, transferTimeoutMs: 60_000 });
  const note = (site: CallSite): void => {
    const { decoder } = site.base as unknown as { decoder: Decoder };
    decoders.push(decoder);
  };
  server = new Server({
    interceptors: [
      interceptorOf([
        (call, site) => {
          note(site);
          return admission.layer(call, site);
        },
      ]),
    ],
    'grpc.max_receive_message_length': -1,
  });
  server.addService(methods, {
    one: (call: ServerUnaryCall<Buffer, Buffer>, done: (error: null, answer: Buffer) => void) => {
      received = [Buffer.from(call.request)];
      done(null, Buffer.from([1]));
    },
    many: (call: ServerReadableStream<Buffer, Buffer>, done: (error: null, answer: Buffer) => void) => {
      received = [];
      call.on('data', (message: Buffer) => received.push(Buffer.from(message)));
      call.on('end', () => done(null, Buffer.from([1])));
    },
  });
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    ),
  );
  address = `127.0.0.1:${port}`;
});
after(() => server.forceShutdown());

test('what a message came in is let go of once it is whole', async () => {
  const raw = await rawClient(address);
  const stream = raw.open('/parts/One');
  stream.end(framed(Buffer.alloc(300_000, 7)));
  assert.equal(await statusOf(stream), 0);
  raw.close();
  assert.equal(received[0]?.length, 300_000);
  const decoder = decoders.at(-1)!;
  assert.equal(decoder.readState, 0);
  assert.equal(decoder.readPartialMessage.length, 0);
  assert.equal(decoder.readCompressFlag.buffer.byteLength, 0);
});

test('the part of a message that has begun in the same chunk stays', async () => {
  const raw = await rawClient(address);
  const stream = raw.open('/parts/Many');
  const messages = [1, 2, 3].map((value) => Buffer.alloc(100 * value, value));
  const bytes = Buffer.concat(messages.map((message) => framed(message)));
  // The first message, and of the second its header, some of its content, or the whole of it and the beginning of the third.
  const cuts = [105 + 3, 105 + 5 + 50, 105 + 205 + 2, bytes.length];
  let at = 0;
  for (const cut of cuts) {
    stream.write(bytes.subarray(at, cut));
    at = cut;
    // The server has taken it once it answers what came after it.
    await new Promise((resolve) => raw.session.ping(resolve));
  }
  stream.end();
  assert.equal(await statusOf(stream), 0);
  raw.close();
  assert.deepEqual(received, messages);
});
