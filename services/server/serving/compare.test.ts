import assert from 'node:assert/strict';
import { after, before, describe, it, test } from 'node:test';
import { type Client, createChannel, createClient, Status } from 'nice-grpc';
import sharp from 'sharp';
import {
  type CompareRequest,
  type CompareSettings,
  type CompareSample,
  type DeepPartial,
  ServingServiceDefinition,
} from '../../../proto/gen/heartwood/serving/v1/serving.js';
import type { RemoteComparison, RemoteSample } from './compare-client.js';
import { resultMessage, resultOf } from './compare-messages.js';
import { incomingMessages } from './incoming.js';
import { latestOf } from './latest.js';
import { heavyModel, publishGraph } from '../testing/fixture-models.js';
import { liveServer, type LiveServer, refused, until } from '../testing/live-server.js';

const area = 64;
let live: LiveServer;
let serving: Client<ServingServiceDefinition>;
let close: () => void;

before(async () => {
  live = await liveServer({ compareMaxSamples: 50, compareMaxBytes: 100_000 });
  ({ serving, close } = connect(live));
});
after(async () => {
  close();
  await live.stop();
});

function connect({ grpcPort }: LiveServer): { serving: Client<ServingServiceDefinition>; close: () => void } {
  const channel = createChannel(`127.0.0.1:${grpcPort}`);
  return { serving: createClient(ServingServiceDefinition, channel), close: () => channel.close() };
}

/** Brightest in channel `label`, which is what both fixtures then answer. */
function brightest(label: number): Float32Array {
  return new Float32Array(3 * area).fill(2, label * area, (label + 1) * area);
}

/** Of every fifth sample the label is one that no version answers. */
async function* fixtureSamples(count: number): AsyncGenerator<RemoteSample> {
  for (let i = 0; i < count; i++) {
    yield { input: { pixels: brightest(i % 3) }, label: i % 5 === 0 ? (i + 1) % 3 : i % 3, name: `s${i}` };
  }
}

const comparison: RemoteComparison = {
  model: 'net',
  versions: [1, 2],
  batch: 2,
  concurrency: 2,
  warmup: 2,
  budget: 1,
  seed: 4,
  confidence: 0.9,
};

describe('Compare', () => {
  it('runs versions interleaved through the served road, and ends in what they cost and answer', async () => {
    const items = (version: number) => live.metric(`heartwood_inference_items_total{model="net",version="${version}"}`);
    const served = await Promise.all([1, 2].map(items));
    const stages = new Set<string>();
    const result = await live.client.compare(comparison, fixtureSamples(41), {
      progress: ({ stage }) => void stages.add(stage),
    });
    assert.deepEqual(
      [result.samples, result.requests, result.batch, result.concurrency, result.seed, result.confidence],
      [40, 20, 2, 2, 4, 0.9],
    );
    assert.ok(stages.has('compare'));
    const [first, second] = result.versions;
    const cost = (tokens: number) => 1 + 10 * tokens + tokens * tokens;
    assert.deepEqual([second!.policy, second!.budget, second!.tokensKept], ['curvature', 1, [13, 9]]);
    assert.deepEqual([first!.policy, first!.budget, first!.tokensKept], ['unpruned', null, []]);
    assert.equal(second!.flops, cost(17) + cost(13) + cost(9));
    assert.deepEqual([first!.accuracy, second!.accuracy, second!.agreement], [0.8, 0.8, 1]);
    // The pruned fixture adds its budget to all logits, which changes no probability.
    assert.ok(Math.abs(second!.kl!) < 1e-9);
    assert.equal(first!.differences, null);
    const ratio = second!.flops / first!.flops;
    assert.equal(second!.differences!.flops!.value, ratio);
    for (const [measure, { value, interval }] of Object.entries(second!.differences!)) {
      assert.ok(interval !== null && interval.low <= value && value <= interval.high, measure);
    }
    const grown = (await Promise.all([1, 2].map(items))).map((value, at) => value - served[at]!);
    assert.deepEqual(grown, [44, 44], 'the requests are counted as every other: 20 and 2 for warming up, of 2 samples');
  });

  it('takes encoded images, and without versions all that are ready', async () => {
    const images = await Promise.all(
      [0, 1, 2].map((channel) => {
        const [r, g, b] = [0, 1, 2].map((each) => (each === channel ? 255 : 0)) as [number, number, number];
        return sharp({ create: { width: 9, height: 9, channels: 3, background: { r, g, b } } })
          .png()
          .toBuffer();
      }),
    );
    async function* samples(): AsyncGenerator<RemoteSample> {
      for (let i = 0; i < 6; i++) yield { input: { image: images[i % 3]! }, label: i % 3, name: '' };
    }
    const all = { ...comparison, versions: [], batch: 1, budget: undefined };
    const { versions } = await live.client.compare(all, samples(), {});
    assert.deepEqual(
      versions.map(({ version, accuracy, budget }) => [version, accuracy, budget]),
      [
        [1, 1, null],
        [2, 1, 0.25],
      ],
    );
  });

  it('goes without labels', async () => {
    async function* samples(): AsyncGenerator<RemoteSample> {
      for await (const sample of fixtureSamples(8)) yield { ...sample, label: undefined };
    }
    const { versions } = await live.client.compare(comparison, samples(), {});
    assert.deepEqual([versions[1]!.accuracy, versions[1]!.crossEntropy, versions[1]!.agreement], [null, null, 1]);
    assert.equal(versions[1]!.differences!.accuracy, undefined);
  });

  it('fails by what the client could not read', async () => {
    async function* samples(): AsyncGenerator<RemoteSample> {
      yield* fixtureSamples(2);
      throw new Error('the disk is on fire');
    }
    await assert.rejects(live.client.compare(comparison, samples(), {}), /the disk is on fire/);
  });
});

const pixels = (label: number) => Buffer.from(brightest(label).buffer);
const sample = (extra: DeepPartial<CompareSample> = {}): DeepPartial<CompareRequest> => ({
  sample: { pixels: pixels(0), label: 0, ...extra },
});

async function ask(requests: DeepPartial<CompareRequest>[]): Promise<void> {
  async function* stream() {
    for (const request of requests) yield request;
  }
  for await (const _ of serving.compare(stream())) void _;
}

test('bad input: a code and a line that names the setting or the sample', async () => {
  const settings = (extra: DeepPartial<CompareSettings> = {}) => ({ settings: { model: 'net', ...extra } });
  const bad = (requests: DeepPartial<CompareRequest>[], details: RegExp, code = Status.INVALID_ARGUMENT) =>
    refused(ask(requests), code, details);
  const withSettings = (extra: DeepPartial<CompareSettings>, details: RegExp, code?: Status) =>
    bad([settings(extra), sample(), sample()], details, code);

  await bad([], /first message of Compare: expected settings/);
  await bad([{}], /first message of Compare: expected settings/);
  await bad([sample()], /first message of Compare: expected settings/);
  await withSettings({ model: 'absent' }, /model absent: not in the repository/, Status.NOT_FOUND);
  await withSettings({ model: '../net' }, /model_name: expected/);
  await withSettings({ versions: [1n, 9n] }, /version 9 of net: not in the repository/, Status.NOT_FOUND);
  await withSettings({ versions: [0n] }, /model_version: expected a whole number of 1 or more/);
  await withSettings({ versions: [-(2n ** 63n)] }, /model_version: expected/);
  await withSettings({ versions: [2n, 2n] }, /versions: 2 is named twice/);
  await withSettings({ batch: 0 }, /batch: expected a whole number of 1 or more, got 0/);
  await withSettings({ batch: 9 }, /batch: 9, expected at most 8/);
  await withSettings({ batch: 3 }, /batch: 3 is more than the 2 samples/);
  await withSettings({ concurrency: 3 }, /concurrency: 3 is more than the 2 requests/);
  await withSettings({ concurrency: -1 }, /concurrency: expected/);
  await withSettings({ warmup: -1 }, /warmup: expected/);
  await withSettings({ seed: 2n ** 62n }, /seed: expected/);
  await withSettings({ confidence: NaN }, /confidence: expected between 0\.5 and 1, got NaN/);
  await withSettings({ budget: -1 }, /budget: expected a finite number/);
  await withSettings({ budget: NaN }, /budget: expected/);

  await bad([settings()], /no samples, expected at least one/);
  await bad([settings(), settings()], /message 1 of Compare: expected a sample/);
  await bad([settings(), sample(), {}], /message 2 of Compare: expected a sample/);
  await bad([settings(), sample(), { sample: { label: 0 } }], /sample 1: expected either an image or pixels/);
  await bad([settings(), sample(), sample({ label: 3, name: 'cat.png' })], /sample 1 \(cat\.png\).*label.*3/);
  await bad([settings(), sample({ label: -1 })], /sample 0.*label.*-1/);
  await bad([settings(), sample(), sample({ label: undefined })], /sample 1 has no label/);
  await bad([settings(), sample({ label: undefined }), sample()], /sample 1 has a label/);
  await bad(
    [settings(), sample({ pixels: Buffer.alloc(767) })],
    /sample 0: 767 bytes of pixels, version 1 expects 768/,
  );
  const nan = Buffer.from(pixels(0));
  nan.writeFloatLE(NaN, 8);
  await bad([settings(), sample({ pixels: nan })], /sample 0: element 2 of its pixels is NaN/);
  const image = (bytes: Buffer, name = '') => ({ sample: { image: bytes, label: 0, name } });
  const png = await sharp({ create: { width: 9, height: 9, channels: 3, background: 'red' } })
    .png()
    .toBuffer();
  await bad([settings(), image(png), image(Buffer.from('GIF89a'), 'dog.gif')], /sample 1 \(dog\.gif\) is not an image/);
  await bad([settings(), image(png), image(png.subarray(0, 50), 'cut.png')], /sample 1 \(cut\.png\) is not an image/);
  await bad([settings(), image(png), sample()], /sample 1 is pixels, those before it are not/);

  const many = Array.from({ length: 51 }, () => sample());
  await bad([settings(), ...many], /more than the 50 samples/, Status.RESOURCE_EXHAUSTED);
  const large = image(Buffer.concat([png, Buffer.alloc(60_000)]));
  await bad([settings(), large, large], /more than the 100000 bytes/, Status.RESOURCE_EXHAUSTED);
  // What was refused is held no longer.
  await ask([settings(), large]);
});

describe('a comparison of a slow model', () => {
  const input = () => Buffer.alloc(4 * 3 * 224 * 224);
  let slow: LiveServer;
  let calls: Client<ServingServiceDefinition>;
  let closeSlow: () => void;
  before(async () => {
    slow = await liveServer();
    await publishGraph(slow.repository, 'heavy', heavyModel());
    await until(() => slow.client.modelReady('heavy', 1));
    ({ serving: calls, close: closeSlow } = connect(slow));
  });
  after(async () => {
    closeSlow();
    await slow.stop();
  });
  async function* endless(): AsyncGenerator<DeepPartial<CompareRequest>> {
    yield { settings: { model: 'heavy', warmup: 0 } };
    // Far more than is run before the call ends.
    for (let i = 0; i < 40; i++) yield { sample: { pixels: input() } };
  }
  const heavyItems = () => slow.metric('heartwood_inference_requests_total{model="heavy",version="1",outcome="OK"}');

  it('is the only one, and is cancelled at once', async () => {
    const controller = new AbortController();
    const answers = calls.compare(endless(), { signal: controller.signal })[Symbol.asyncIterator]();
    const first = await answers.next();
    assert.equal(first.done !== true && first.value.progress?.stage, 'compare');
    const second = calls.compare(endless())[Symbol.asyncIterator]();
    await refused(second.next(), Status.RESOURCE_EXHAUSTED, /a comparison is under way/);
    controller.abort();
    await assert.rejects(async () => {
      while ((await answers.next()).done !== true);
    });
    // The place is free as soon as the run under way has ended; nothing more is run for the one that was cancelled.
    const again = new AbortController();
    await until(async () => {
      const retry = calls.compare(endless(), { signal: again.signal })[Symbol.asyncIterator]();
      return retry.next().then(
        () => true,
        () => false,
      );
    });
    again.abort();
    assert.ok((await heavyItems()) < 20);
  });

  it('ends when the server stops', async (context) => {
    const other = await liveServer();
    context.after(() => other.stop());
    await publishGraph(other.repository, 'heavy', heavyModel());
    await until(() => other.client.modelReady('heavy', 1));
    const { serving: client, close: closeOther } = connect(other);
    context.after(closeOther);
    const answers = client.compare(endless())[Symbol.asyncIterator]();
    await answers.next();
    const failed = refused(
      (async () => {
        while ((await answers.next()).done !== true);
      })(),
      Status.UNAVAILABLE,
      /the server is stopping/,
    );
    await other.stop();
    await failed;
  });
});

test('a client that says nothing is not waited for', async (context) => {
  const quiet = await liveServer({ compareIdleMs: 20 });
  context.after(() => quiet.stop());
  const { serving: client, close: closeQuiet } = connect(quiet);
  context.after(closeQuiet);
  async function* silent(): AsyncGenerator<DeepPartial<CompareRequest>> {
    yield { settings: { model: 'net' } };
    await new Promise(() => undefined);
  }
  const answers = client.compare(silent())[Symbol.asyncIterator]();
  await refused(answers.next(), Status.DEADLINE_EXCEEDED, /the client has sent nothing for 20 ms/);
});

describe('the parts', () => {
  it('a result is the same once it has been a message', async () => {
    const result = await live.client.compare({ ...comparison, batch: 1 }, fixtureSamples(9), {});
    assert.deepEqual(resultOf(resultMessage(result)), result);
    const without = { ...result, versions: result.versions.slice(0, 1), meter: 'a meter' };
    assert.deepEqual(resultOf(resultMessage(without)), without);
  });

  it('messages end with an abort even while nothing comes', async () => {
    const controller = new AbortController();
    async function* never(): AsyncGenerator<number> {
      yield 1;
      await new Promise(() => undefined);
    }
    const incoming = incomingMessages(never(), { signal: controller.signal, idleMs: 60_000 });
    assert.deepEqual(await incoming.next(), { value: 1, done: false });
    const waiting = incoming.next();
    controller.abort();
    await assert.rejects(waiting, { code: 'CANCELLED' });
  });

  it('of values of which only the newest counts a slow reader gets the last', async () => {
    const latest = latestOf<number>();
    latest.push(1);
    latest.push(2);
    const reader = latest[Symbol.asyncIterator]();
    assert.deepEqual(await reader.next(), { value: 2, done: false });
    const waiting = reader.next();
    latest.push(3);
    assert.deepEqual(await waiting, { value: 3, done: false });
    latest.push(4);
    latest.end();
    assert.deepEqual(await reader.next(), { value: 4, done: false });
    assert.equal((await reader.next()).done, true);
  });
});
