import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Status } from 'nice-grpc';
import sharp from 'sharp';
import { preprocessImage } from '../../libs/data/preprocess.js';
import type { ModelInferResponse } from '../../proto/gen/open_inference_grpc.js';
import { createLogger } from '../../libs/telemetry/log.js';
import { imageManifest } from '../../libs/store/manifest.js';
import type { InferenceRequest } from './client.js';
import type { ServerOptions } from './options.js';
import { startServer } from './server.js';
import { liveServer, type LiveServer, pixels, rawRequest, refused } from './testing/live-server.js';

let live: LiveServer;
before(async () => {
  live = await liveServer();
});
after(() => live.stop());

function floats(response: ModelInferResponse, name: string): number[] {
  const bytes = response.rawOutputContents[response.outputs.findIndex((output) => output.name === name)];
  return Array.from(new Float32Array(new Uint8Array(bytes ?? []).buffer));
}

test('liveness, readiness and metadata', async () => {
  assert.deepEqual(await live.raw.serverLive({}), { live: true });
  assert.deepEqual(await live.raw.serverReady({}), { ready: true });
  assert.equal((await live.raw.serverMetadata({})).name, 'heartwood');
  assert.deepEqual(await live.raw.modelReady({ name: 'net' }), { ready: true });
  assert.deepEqual(await live.raw.modelReady({ name: 'net', version: '1' }), { ready: true });
  assert.deepEqual(await live.raw.modelReady({ name: 'net', version: '77' }), { ready: false });
  assert.deepEqual(await live.raw.modelReady({ name: 'absent' }), { ready: false });
  const metadata = await live.raw.modelMetadata({ name: 'net', version: '2' });
  assert.deepEqual(metadata, {
    name: 'net',
    versions: ['1', '2'],
    platform: 'onnxruntime_onnx',
    inputs: [
      { name: 'pixel_values', datatype: 'FP32', shape: [-1n, 3n, 8n, 8n] },
      { name: 'budget', datatype: 'FP32', shape: [-1n, 1n] },
      { name: 'image', datatype: 'BYTES', shape: [-1n, 1n] },
    ],
    outputs: [
      { name: 'logits', datatype: 'FP32', shape: [-1n, 3n] },
      { name: 'tokens_kept', datatype: 'INT32', shape: [-1n, 2n] },
    ],
  });
});

test('raw contents in, raw contents out; the newest version is the default', async () => {
  const response = await live.raw.modelInfer(rawRequest(2, { id: 'abc' }));
  assert.equal(response.modelVersion, '2');
  assert.equal(response.id, 'abc');
  assert.deepEqual(floats(response, 'logits'), [0.25, 1.25, 2.25, 10.25, 11.25, 12.25]);
  assert.deepEqual(
    response.outputs.map(({ name, datatype, shape }) => [name, datatype, shape]),
    [
      ['logits', 'FP32', [2n, 3n]],
      ['tokens_kept', 'INT32', [2n, 2n]],
    ],
  );
  assert.deepEqual(floats(await live.raw.modelInfer(rawRequest(1, { modelVersion: '1' })), 'logits'), [0, 1, 2]);
});

test('typed contents, and only the outputs asked for', async () => {
  const { dims, data } = pixels(1);
  const response = await live.raw.modelInfer({
    modelName: 'net',
    inputs: [
      { name: 'pixel_values', datatype: 'FP32', shape: dims.map(BigInt), contents: { fp32Contents: [...data] } },
      { name: 'budget', datatype: 'FP32', shape: [1n, 1n], contents: { fp32Contents: [2] } },
    ],
    outputs: [{ name: 'tokens_kept' }],
  });
  assert.deepEqual(
    response.outputs.map(({ name }) => name),
    ['tokens_kept'],
  );
  assert.deepEqual([...new Int32Array(new Uint8Array(response.rawOutputContents[0] ?? []).buffer)], [9, 1]);
});

test('an encoded image answers as its preprocessed pixels do', async () => {
  const noise = Uint8Array.from({ length: 20 * 30 * 3 }, (_, i) => (i * 7919) % 256);
  const png = await sharp(noise, { raw: { width: 30, height: 20, channels: 3 } })
    .png()
    .toBuffer();
  const { preprocessing } = imageManifest(await live.repository.readManifest('net', 1));
  const expected = await live.client.infer({
    model: 'net',
    pixels: { dims: [1, 3, 8, 8], data: await preprocessImage(png, preprocessing) },
  });
  const answer = await live.client.infer({ model: 'net', images: [png, png, png] });
  const row = Array.from(expected.outputs['logits']?.data as Float32Array);
  assert.deepEqual(answer.outputs['logits']?.dims, [3, 3]);
  assert.deepEqual(Array.from(answer.outputs['logits']?.data as Float32Array), [...row, ...row, ...row]);
});

test('budget: the tensor wins over the parameter, the parameter over the version’s default', async () => {
  const added = async (extra: InferenceRequest['budget']) => {
    const request = { model: 'net', pixels: pixels(2), ...(extra === undefined ? {} : { budget: extra }) };
    const { outputs } = await live.client.infer(request);
    const logits = outputs['logits']?.data as Float32Array;
    return [logits[0], (logits[3] ?? NaN) - 10];
  };
  assert.deepEqual(await added(undefined), [0.25, 0.25]);
  assert.deepEqual(await added(0.5), [0.5, 0.5]);
  assert.deepEqual(await added(Float32Array.of(0, 1.5)), [0, 1.5]);
  const both = rawRequest(1, { parameters: { budget: { doubleParam: 0.5 } } });
  both.inputs = [...(both.inputs ?? []), { name: 'budget', datatype: 'FP32', shape: [1n, 1n] }];
  both.rawInputContents = [...(both.rawInputContents ?? []), Buffer.from(Float32Array.of(0.125).buffer)];
  assert.equal(floats(await live.raw.modelInfer(both), 'logits')[0], 0.125);
  await assert.rejects(live.client.infer({ model: 'net', version: 1, pixels: pixels(1), budget: 3 }), {
    code: 'INVALID_ARGUMENT',
    message: /budget: 3, expected none: version 1 of net drops no tokens$/,
  });
  const dense = await live.client.infer({ model: 'net', version: 1, pixels: pixels(1) });
  assert.equal((dense.outputs['logits']?.data as Float32Array)[0], 0);
});

test('a stream answers in order, and a bad request in it answers in its place', async () => {
  async function* requests() {
    for (let i = 0; i < 40; i++) {
      yield i % 10 === 3
        ? { modelName: i === 3 ? 'absent' : '../net', id: `bad ${i}` }
        : rawRequest(1 + (i % 3), { id: `good ${i}`, modelVersion: String(1 + (i % 2)) });
    }
  }
  const ids: string[] = [];
  for await (const { errorMessage, inferResponse } of live.raw.modelStreamInfer(requests())) {
    const id = inferResponse?.id ?? '';
    ids.push(id);
    assert.equal(errorMessage !== '', id.startsWith('bad'), `${id}: ${errorMessage}`);
    if (id === 'bad 3') assert.match(errorMessage, /model absent: not in the repository/);
    if (id.startsWith('good')) assert.equal(inferResponse?.outputs[0]?.name, 'logits');
  }
  assert.deepEqual(
    ids,
    Array.from({ length: 40 }, (_, i) => `${i % 10 === 3 ? 'bad' : 'good'} ${i}`),
  );
});

test('a port that is taken, or a repository that is not there, is one clear error', async () => {
  const metricsPort = Number(new URL(live.metricsUrl).port);
  const options = { repository: live.repository.directory, host: '127.0.0.1', port: 0, metricsPort: 0 };
  const start = (changes: Partial<ServerOptions>) =>
    startServer({ ...options, ...changes }, createLogger('test', 'silent'));
  await assert.rejects(start({ metricsPort }), {
    code: 'UNAVAILABLE',
    message: new RegExp(`metrics port ${metricsPort}: `),
  });
  const { grpcPort } = live;
  await assert.rejects(start({ port: grpcPort }), {
    code: 'UNAVAILABLE',
    message: new RegExp(`gRPC port ${grpcPort}: `),
  });
  const absent = `${live.repository.directory}/absent`;
  await assert.rejects(start({ repository: absent }), { code: 'NOT_FOUND', message: /absent: expected a folder/ });
});

test('calls of a newer protocol are answered as not implemented', async () => {
  await refused(live.call('ModelExplain'), Status.UNIMPLEMENTED, /./);
});

test('/metrics counts by model and version: outcomes, phases, tokens, FLOPs', async () => {
  const labels = 'model="net",version="2"';
  const series = [
    `heartwood_inference_requests_total{${labels},outcome="OK"}`,
    `heartwood_inference_items_total{${labels}}`,
    `heartwood_inference_flops_total{${labels}}`,
    `heartwood_inference_tokens_kept_ratio_sum{${labels},stage="1"}`,
    'heartwood_inference_requests_total{model="unknown",version="unknown",outcome="NOT_FOUND"}',
    `heartwood_inference_requests_total{${labels},outcome="INVALID_ARGUMENT"}`,
    ...['queue', 'preprocess', 'compute', 'postprocess', 'total'].map(
      (phase) => `heartwood_inference_duration_seconds_count{${labels},phase="${phase}"}`,
    ),
  ];
  const before = await Promise.all(series.map((name) => live.metric(name)));
  await live.client.infer({ model: 'net', version: 2, pixels: pixels(3), budget: 1 });
  await assert.rejects(live.client.infer({ model: 'absent', pixels: pixels(1) }), { code: 'NOT_FOUND' });
  await assert.rejects(live.client.infer({ model: 'net', pixels: pixels(1), budget: -1 }), {
    code: 'INVALID_ARGUMENT',
  });
  const grown = (await Promise.all(series.map((name) => live.metric(name)))).map(
    (value, i) => value - (before[i] ?? 0),
  );
  // Segments cost 1 + 10 t + t², at 17, 13 and 9 tokens.
  const flops = [17, 13, 9].reduce((sum, t) => sum + 1 + 10 * t + t * t, 0);
  const expected = [1, 3, 3 * flops, 3 * (9 / 17), 1, 1, 1, 1, 1, 1, 1];
  grown.forEach((value, i) =>
    assert.ok(Math.abs(value - (expected[i] ?? NaN)) < 1e-9, `${series[i]} grew by ${value}, not ${expected[i]}`),
  );

  const text = await live.metrics();
  assert.match(text, /^heartwood_model_ready\{model="net",version="1"\} 1$/m);
  assert.match(
    text,
    /^heartwood_model_info\{model="net",version="2",architecture="ViTForImageClassification",policy="curvature",default="true",provider="cpu"\} 1$/m,
  );
  assert.match(text, /^heartwood_model_budget_nats\{model="net",version="2"\} 0\.25$/m);
  assert.match(text, /^heartwood_model_queue_length\{model="net",version="1"\} 0$/m);
  assert.doesNotMatch(text, /model="absent"|\.\.\/net/);
});
