import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type Client, createChannel, createClient, Status } from 'nice-grpc';
import sharp from 'sharp';
import {
  type ClassifyRequest,
  type ClassifyResponse,
  type DeepPartial,
  ServingServiceDefinition,
} from '../../../proto/gen/heartwood/serving/v1/serving.js';
import { heavyModel, publishGraph } from '../testing/fixture-models.js';
import { type LiveServer, liveServer, until } from '../testing/live-server.js';

let server: LiveServer;
let client: Client<ServingServiceDefinition>;
let closeChannel: () => void;
let red: Buffer;
before(async () => {
  server = await liveServer();
  const channel = createChannel(`127.0.0.1:${server.grpcPort}`);
  closeChannel = () => channel.close();
  client = createClient(ServingServiceDefinition, channel);
  red = await sharp({ create: { width: 8, height: 8, channels: 3, background: { r: 255, g: 128, b: 0 } } })
    .png()
    .toBuffer();
});
after(async () => {
  closeChannel();
  await server.stop();
});

type Request = DeepPartial<ClassifyRequest>;

async function answers(requests: AsyncIterable<Request> | Iterable<Request>): Promise<ClassifyResponse[]> {
  const all: ClassifyResponse[] = [];
  async function* stream(): AsyncGenerator<Request> {
    yield* requests;
  }
  for await (const answer of client.classify(stream())) all.push(answer);
  return all;
}

test('frames are answered in order, with the likeliest classes, tokens, FLOPs and no joules without a meter', async () => {
  const [first, second] = await answers([
    { settings: { model: 'net', version: 2n, topK: 2, budget: 0.5, energy: true } },
    { frame: { id: 'a', image: red } },
    { frame: { id: 'b', image: red, budget: 1 } },
  ]);
  assert.deepEqual([first!.id, second!.id], ['a', 'b']);
  const { classes, tokensKept, flops, joules, budget, model, version, computeMs } = first!.classification!;
  assert.deepEqual({ model, version, budget, joules }, { model: 'net', version: 2n, budget: 0.5, joules: undefined });
  assert.deepEqual(
    classes.map(({ index, label }) => [index, label]),
    [
      [0, 'red'],
      [1, 'green'],
    ],
  );
  assert.ok(classes[0]!.probability > classes[1]!.probability && classes[0]!.probability < 1);
  assert.deepEqual(tokensKept, [15, 13]);
  assert.equal(flops, 1 + 170 + 289 + (1 + 150 + 225) + (1 + 130 + 169));
  assert.ok(computeMs > 0);
  assert.deepEqual(second!.classification?.tokensKept, [13, 9]);
});

test('a frame that fails answers in its place, and the stream lives on', async () => {
  const settings = { model: 'net' };
  const replies = await answers([
    { settings, frame: { id: 'good', image: red } },
    { frame: { id: 'no image', image: Buffer.from('not an image') } },
    { frame: { id: 'empty', image: Buffer.alloc(0) } },
    { frame: { id: 'budget', image: red, budget: -1 } },
    { settings: { model: 'absent' }, frame: { id: 'absent', image: red } },
    { settings: { ...settings, version: 7n }, frame: { id: 'version', image: red } },
    { settings, frame: { id: 'again', image: red } },
  ]);
  assert.deepEqual(
    replies.map(({ id, error }) => [id, error?.code ?? 0]),
    [
      ['good', 0],
      ['no image', Status.INVALID_ARGUMENT],
      ['empty', Status.INVALID_ARGUMENT],
      ['budget', Status.INVALID_ARGUMENT],
      ['absent', Status.NOT_FOUND],
      ['version', Status.NOT_FOUND],
      ['again', 0],
    ],
  );
  assert.match(replies[3]!.error!.message, /budget: expected a finite number of nats/);
});

test('a stream without settings says so, and an empty one is answered with nothing', async () => {
  const [reply] = await answers([{ frame: { id: 'lost', image: red } }]);
  assert.match(reply!.error!.message, /settings: missing/);
  assert.deepEqual(await answers([{ settings: { model: 'net' } }]), []);
  assert.deepEqual(await answers([]), []);
});

test('a camera that is faster than the model gets answers to its newest frames, and is told how many were dropped', async () => {
  await publishGraph(server.repository, 'slow', heavyModel());
  await until(async () => (await server.client.modelReady('slow')) === true);
  let send = true;
  let sent = 0;
  async function* camera(): AsyncGenerator<Request> {
    yield { settings: { model: 'slow', latestOnly: true } };
    while (send) {
      yield { frame: { id: String(sent++), image: red } };
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
  const replies: ClassifyResponse[] = [];
  for await (const reply of client.classify(camera())) {
    replies.push(reply);
    if (replies.length === 4) send = false;
  }
  const ids = replies.map(({ id }) => Number(id));
  assert.deepEqual(
    ids,
    [...ids].sort((a, b) => a - b),
  );
  assert.ok(replies.every(({ classification }) => classification !== undefined));
  const dropped = replies.reduce((sum, reply) => sum + reply.dropped, 0);
  assert.equal(dropped + replies.length, sent);
  assert.ok(dropped > replies.length, `${dropped} of ${sent} were dropped`);
});

test('a frame that has not begun by its deadline is refused', async () => {
  // The model is at another request when they come.
  const pixels = { dims: [4, 3, 224, 224], data: new Float32Array(4 * 3 * 224 * 224) };
  const other = server.client.infer({ model: 'slow', pixels });
  await until(async () => (await server.metric('heartwood_model_running_requests{model="slow",version="1"}')) === 1);
  const settings = { model: 'slow', deadlineMs: 1 };
  const replies = await answers(
    Array.from({ length: 5 }, (_, i) => ({ settings, frame: { id: String(i), image: red } })),
  );
  await other;
  assert.equal(replies.length, 5);
  assert.deepEqual(new Set(replies.map(({ error }) => error?.code)), new Set([Status.DEADLINE_EXCEEDED]));
});
