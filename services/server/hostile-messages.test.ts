import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Client, credentials, status } from '@grpc/grpc-js';
import { CompareRequest, GenerateRequest } from '../../proto/gen/heartwood/serving/v1/serving.js';
import { ModelInferRequest } from '../../proto/gen/open_inference_grpc.js';
import { liveServer, type LiveServer, rawRequest } from './testing/live-server.js';

let live: LiveServer;
let client: Client;
before(async () => {
  live = await liveServer();
  client = new Client(`127.0.0.1:${live.grpcPort}`, credentials.createInsecure(), {
    'grpc.max_send_message_length': -1,
  });
});
after(async () => {
  client.close();
  await live.stop();
});

const modelInfer = '/inference.GRPCInferenceService/ModelInfer';

/** Sends bytes as messages of a call; the code and details that it ends with. */
function send(path: string, messages: readonly Uint8Array[]): Promise<{ code: string; details: string }> {
  return new Promise((resolve) => {
    const call = client.makeBidiStreamRequest(
      path,
      (bytes: Uint8Array) => Buffer.from(bytes),
      (bytes) => bytes,
    );
    call.on('status', ({ code, details }) => resolve({ code: String(status[code]), details }));
    call.on('error', () => undefined);
    call.resume();
    for (const message of messages) call.write(message);
    call.end();
  });
}

test('bytes that are no message are the client’s fault, and no defect of the server’s', async () => {
  const request = ModelInferRequest.encode(ModelInferRequest.fromPartial(rawRequest(1))).finish();
  for (const bytes of [request.subarray(0, 40), Buffer.alloc(300_000, 0x7b), Buffer.from([0xff])]) {
    const { code, details } = await send(modelInfer, [bytes]);
    assert.deepEqual([code, details], ['INVALID_ARGUMENT', 'the request is no inference.ModelInferRequest']);
  }
  const counted = 'grpc_server_handled_total{grpc_type="unary",grpc_service="inference.GRPCInferenceService"';
  assert.equal(await live.metric(`${counted},grpc_method="ModelInfer",grpc_code="InvalidArgument"}`), 3);
});

test('a text that is not UTF-8 is refused by its field, rather than taken for another', async () => {
  const generate = '/heartwood.serving.v1.ServingService/Generate';
  const [mark, wrong] = [Buffer.from('ab'), Buffer.from([0x61, 0xe9])];
  const infer = (request: Parameters<typeof ModelInferRequest.fromPartial>[0]) =>
    ModelInferRequest.encode(ModelInferRequest.fromPartial(request)).finish();
  const ask = (request: Parameters<typeof GenerateRequest.fromPartial>[0]) =>
    GenerateRequest.encode(GenerateRequest.fromPartial(request)).finish();
  const cases: [string, Uint8Array, string][] = [
    [generate, ask({ text: 'ab' }), 'text'],
    [generate, ask({ text: 'x', stop: ['y', 'ab'] }), 'stop'],
    [modelInfer, infer({ modelName: 'ab' }), 'model_name'],
    [modelInfer, infer({ inputs: [{ name: 'ab' }] }), 'name'],
    [modelInfer, infer({ parameters: { stop: { stringParam: 'ab' } } }), 'string_param'],
    [modelInfer, infer({ parameters: { ab: { boolParam: true } } }), 'parameters'],
  ];
  for (const [path, message, field] of cases) {
    const bytes = Buffer.from(message);
    wrong.copy(bytes, bytes.indexOf(mark));
    const { code, details } = await send(path, [bytes]);
    assert.deepEqual([code, details], ['INVALID_ARGUMENT', `field ${field}: bytes that are not UTF-8 text`]);
  }
});

test('in a stream what came before bytes that are no message is answered, and then its status comes', async () => {
  const good = ModelInferRequest.encode(ModelInferRequest.fromPartial(rawRequest(1))).finish();
  const calls = Array.from({ length: 200 }, (_, at) => {
    const before = Array.from({ length: at % 5 }, () => good);
    return send('/inference.GRPCInferenceService/ModelStreamInfer', [...before, Buffer.from([0xff]), good]);
  });
  for (const { code } of await Promise.all(calls)) assert.equal(code, 'INVALID_ARGUMENT');
});

test('a message of sixty million bytes that says "another input" in every two of them is not decoded', async () => {
  const { code, details } = await send(modelInfer, [Buffer.alloc(60_000_000, Buffer.from([0x2a, 0]))]);
  assert.equal(code, 'RESOURCE_EXHAUSTED');
  assert.match(details, /more than 268435456 bytes of memory once decoded/);
  const answered = await live.raw.modelInfer(rawRequest(1));
  assert.equal(answered.modelName, 'net');
});

test('what a client sent is quoted within bounds: a long or broken text ends neither connection nor process', async () => {
  const named = (name: string, shape: bigint[]) =>
    ModelInferRequest.encode(ModelInferRequest.fromPartial({ modelName: 'net', inputs: [{ name, shape }] })).finish();
  const ones = Array.from({ length: 100_000 }, () => 1n);
  for (const bytes of [named('😀'.repeat(300_000), [-1n]), named('\n'.repeat(1_000_000), [-1n]), named('x', ones)]) {
    const { code, details } = await send(modelInfer, [bytes]);
    assert.equal(code, 'INVALID_ARGUMENT');
    assert.ok(details.length <= 1100 && !details.includes('\n'), `${details.length} characters`);
  }
  // Cut at a fixed length this name ends in half of a pair.
  const messages = [
    { settings: { model: 'net', versions: [1n, 2n] } },
    { sample: { image: Buffer.from('none'), name: `x${'😀'.repeat(100)}` } },
  ].map((message) => CompareRequest.encode(CompareRequest.fromPartial(message)).finish());
  const { code, details } = await send('/heartwood.serving.v1.ServingService/Compare', messages);
  assert.equal(code, 'INVALID_ARGUMENT');
  assert.match(details, /\ufffd/);
});
