import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Server, ServerCredentials, type ServerWritableStream } from '@grpc/grpc-js';
import { GenerateResponse } from '../../proto/gen/heartwood/serving/v1/serving.js';
import { interceptorOf } from './call-layer.js';
import { framedMessage, sendFramed } from './framed-message.js';
import { framed, rawClient } from './testing/raw-client.js';

const texts = ['', 'oak', 'Kärnvirke 🌲', 'x'.repeat(70_000)];
const messages = texts.map((text, id) => ({
  text: { text, tokens: [{ id, logprob: -0.5, top: [{ id: 7, logprob: -0.25 }] }] },
  end: undefined,
}));

let serialized = 0;
let server: Server;
let address: string;

before(async () => {
  server = new Server({ interceptors: [interceptorOf([sendFramed])] });
  const methods = {
    texts: {
      ...{ path: '/framed/Texts', requestStream: false, responseStream: true },
      requestSerialize: (bytes: Buffer) => bytes,
      requestDeserialize: (bytes: Buffer) => bytes,
      responseSerialize: (message: GenerateResponse) => {
        serialized++;
        return Buffer.from(GenerateResponse.encode(message).finish());
      },
      responseDeserialize: (bytes: Buffer) => GenerateResponse.decode(bytes),
    },
  };
  server.addService(methods, {
    texts: (call: ServerWritableStream<Buffer, GenerateResponse>) => {
      const asTheyAre = call.request[0] === 1;
      for (const message of messages) {
        call.write(asTheyAre ? message : framedMessage<GenerateResponse, GenerateResponse>(GenerateResponse, message));
      }
      call.end();
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

/** What a call answers, byte for byte. */
async function answered(asTheyAre: boolean): Promise<Buffer> {
  const client = await rawClient(address);
  try {
    const stream = client.open('/framed/Texts');
    stream.end(framed(Buffer.from([asTheyAre ? 1 : 0])));
    const chunks: Buffer[] = [];
    for await (const chunk of stream) chunks.push(chunk as Buffer);
    return Buffer.concat(chunks);
  } finally {
    client.close();
  }
}

test('a framed message goes over the wire as one that grpc-js frames, and is not serialized again', async () => {
  const expected = await answered(true);
  assert.equal(serialized, messages.length, 'messages as they are go through the serializer');
  assert.deepEqual(
    expected,
    Buffer.concat(messages.map((message) => framed(GenerateResponse.encode(message).finish()))),
  );
  assert.deepEqual(await answered(false), expected);
  assert.equal(serialized, messages.length);
});
