import assert from 'node:assert/strict';
import { appendFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { type Channel, createChannel, createClient, type Client, Status } from 'nice-grpc';
import sharp from 'sharp';
import { preprocessImage } from '../../libs/data/preprocess.js';
import type { Repository } from '../../libs/store/repository.js';
import { createLogger } from '../../libs/telemetry/log.js';
import {
  type DeepPartial,
  GRPCInferenceServiceDefinition,
  ModelInferRequest,
  type ModelInferResponse,
} from '../../proto/gen/open_inference_grpc.js';
import { connectInference, type InferenceClient } from './client.js';
import { type RunningServer, startServer } from './server.js';
import { joinBytes } from './tensor-codec.js';
import { budgetDraft, budgetModel, meanModel, publishGraph } from './testing/fixture-models.js';
import { temporaryRepository } from './testing/temporary-repository.js';

let repository: Repository;
let remove: () => Promise<void>;
let server: RunningServer;
let channel: Channel;
let raw: Client<GRPCInferenceServiceDefinition>;
let client: InferenceClient;

before(async () => {
  ({ repository, remove } = await temporaryRepository());
  await publishGraph(repository, 'net', meanModel());
  await publishGraph(repository, 'net', budgetModel(), budgetDraft);
  server = await startServer(
    {
      repository: repository.directory,
      host: '127.0.0.1',
      port: 0,
      metricsPort: 0,
      threads: 1,
      pollMs: 20,
      maxBatch: 8,
    },
    createLogger('test', 'silent'),
  );
  const address = `127.0.0.1:${server.grpcPort}`;
  channel = createChannel(address);
  raw = createClient(GRPCInferenceServiceDefinition, channel);
  client = connectInference(address);
});

after(async () => {
  channel.close();
  client.close();
  await server.stop();
  await remove();
});

const pixelCount = 3 * 8 * 8;

/** `batch` images of which channel c of image i is everywhere 10·i + c. */
function pixels(batch: number): { dims: number[]; data: Float32Array } {
  const data = Float32Array.from(
    { length: batch * pixelCount },
    (_, at) => 10 * Math.floor(at / pixelCount) + (Math.floor(at / 64) % 3),
  );
  return { dims: [batch, 3, 8, 8], data };
}

function rawRequest(batch: number, extra: DeepPartial<ModelInferRequest> = {}): DeepPartial<ModelInferRequest> {
  const { dims, data } = pixels(batch);
  return {
    modelName: 'net',
    inputs: [{ name: 'pixel_values', datatype: 'FP32', shape: dims.map(BigInt) }],
    rawInputContents: [Buffer.from(data.buffer)],
    ...extra,
  };
}

function floats(response: ModelInferResponse, name: string): number[] {
  const bytes = response.rawOutputContents[response.outputs.findIndex((output) => output.name === name)];
  return Array.from(new Float32Array(new Uint8Array(bytes ?? []).buffer));
}

function refused(call: Promise<unknown>, code: Status, details: RegExp): Promise<void> {
  return assert.rejects(call, (error: { code?: Status; details?: string }) => {
    assert.equal(Status[error.code ?? Status.OK], Status[code], error.details ?? '');
    assert.match(error.details ?? '', details);
    assert.doesNotMatch(error.details ?? '', /\n|node_modules|\.js:/);
    return true;
  });
}

const metrics = async (): Promise<string> => (await fetch(`http://127.0.0.1:${server.metricsPort}/metrics`)).text();

/** The value of one series, 0 when it is absent. */
async function metric(series: string): Promise<number> {
  const line = (await metrics()).split('\n').find((text) => text.startsWith(`${series} `));
  return Number(line?.slice(series.length + 1) ?? 0);
}

/** Asks until it is so; the test's own time limit is the end. */
async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 10));
}

test('liveness, readiness and metadata', async () => {
  assert.deepEqual(await raw.serverLive({}), { live: true });
  assert.deepEqual(await raw.serverReady({}), { ready: true });
  assert.equal((await raw.serverMetadata({})).name, 'heartwood');
  assert.deepEqual(await raw.modelReady({ name: 'net' }), { ready: true });
  assert.deepEqual(await raw.modelReady({ name: 'net', version: '1' }), { ready: true });
  assert.deepEqual(await raw.modelReady({ name: 'net', version: '77' }), { ready: false });
  assert.deepEqual(await raw.modelReady({ name: 'absent' }), { ready: false });
  const metadata = await raw.modelMetadata({ name: 'net', version: '2' });
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
  const response = await raw.modelInfer(rawRequest(2, { id: 'abc' }));
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
  assert.deepEqual(floats(await raw.modelInfer(rawRequest(1, { modelVersion: '1' })), 'logits'), [0, 1, 2]);
});

test('typed contents, and only the outputs asked for', async () => {
  const { dims, data } = pixels(1);
  const response = await raw.modelInfer({
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
  const { preprocessing } = await repository.readManifest('net', 1);
  const expected = await client.infer({
    model: 'net',
    pixels: { dims: [1, 3, 8, 8], data: await preprocessImage(png, preprocessing) },
  });
  const answer = await client.infer({ model: 'net', images: [png, png, png] });
  const row = Array.from(expected.outputs['logits']?.data as Float32Array);
  assert.deepEqual(answer.outputs['logits']?.dims, [3, 3]);
  assert.deepEqual(Array.from(answer.outputs['logits']?.data as Float32Array), [...row, ...row, ...row]);
});

test('budget: the tensor wins over the parameter, the parameter over the version’s default', async () => {
  const added = async (extra: Parameters<typeof client.infer>[0]['budget']) => {
    const request = { model: 'net', pixels: pixels(2), ...(extra === undefined ? {} : { budget: extra }) };
    const { outputs } = await client.infer(request);
    const logits = outputs['logits']?.data as Float32Array;
    return [logits[0], (logits[3] ?? NaN) - 10];
  };
  assert.deepEqual(await added(undefined), [0.25, 0.25]);
  assert.deepEqual(await added(0.5), [0.5, 0.5]);
  assert.deepEqual(await added(Float32Array.of(0, 1.5)), [0, 1.5]);
  const both = rawRequest(1, { parameters: { budget: { doubleParam: 0.5 } } });
  both.inputs = [...(both.inputs ?? []), { name: 'budget', datatype: 'FP32', shape: [1n, 1n] }];
  both.rawInputContents = [...(both.rawInputContents ?? []), Buffer.from(Float32Array.of(0.125).buffer)];
  assert.equal(floats(await raw.modelInfer(both), 'logits')[0], 0.125);
  // A version without the input keeps every token, which fits any budget.
  const dense = await client.infer({ model: 'net', version: 1, pixels: pixels(1), budget: 3 });
  assert.equal((dense.outputs['logits']?.data as Float32Array)[0], 0);
});

test('bad requests: a code and a line that names the field', async () => {
  const { dims, data } = pixels(1);
  const shape = dims.map(BigInt);
  const bytes = Buffer.from(data.buffer);
  const input = { name: 'pixel_values', datatype: 'FP32', shape };
  const bad = (extra: DeepPartial<ModelInferRequest>, details: RegExp, code = Status.INVALID_ARGUMENT) =>
    refused(raw.modelInfer({ modelName: 'net', inputs: [input], rawInputContents: [bytes], ...extra }), code, details);

  await bad({ modelName: 'absent' }, /model absent: not in the repository/, Status.NOT_FOUND);
  await bad({ modelVersion: '77' }, /version 77 of net: not in the repository/, Status.NOT_FOUND);
  for (const modelName of ['', '..', '../net', 'a/b', 'net/../net', '/etc/passwd', 'a\0b', 'x'.repeat(200)]) {
    await bad({ modelName }, /model_name: expected/);
  }
  for (const modelVersion of ['..', '1/../2', '0', '-1', '1.5', 'latest', '01'])
    await bad({ modelVersion }, /model_version: expected/);

  await bad({ inputs: [], rawInputContents: [] }, /one of the inputs pixel_values and image is missing/);
  await bad({ rawInputContents: [] }, /input pixel_values: 0 elements/);
  await bad(
    { rawInputContents: [bytes, bytes] },
    /raw_input_contents: 2 of them, expected one for each of the 1 inputs/,
  );
  await bad(
    { rawInputContents: [bytes.subarray(4)] },
    /input pixel_values: 764 bytes of raw_input_contents, expected 768/,
  );
  await bad({ inputs: [{ ...input, contents: { fp32Contents: [1] } }] }, /contents beside raw_input_contents/);
  await bad({ inputs: [input, input], rawInputContents: [bytes, bytes] }, /input pixel_values: given twice/);
  await bad({ inputs: [{ ...input, name: 'pixels' }] }, /unknown input "pixels", expected pixel_values, budget, image/);
  await bad({ inputs: [{ ...input, datatype: 'FP64' }] }, /768 bytes of raw_input_contents, expected 1536/);
  await bad({ inputs: [{ ...input, datatype: 'INT32' }] }, /input pixel_values has type int32, expected float32/);
  await bad({ inputs: [{ ...input, datatype: 'FP16' }] }, /datatype "FP16", expected one of FP32/);
  await bad(
    { inputs: [{ ...input, shape: [1n, 192n] }] },
    /input pixel_values has shape \[1, 192\], expected \[B, 3, 8, 8\]/,
  );
  await bad({ inputs: [{ ...input, shape: [-1n, 3n, 8n, 8n] }] }, /dimension -1/);
  await bad({ inputs: [{ ...input, shape: [2n ** 62n, 3n, 8n, 8n] }] }, /dimension 4611686018427387904/);
  await bad(
    { inputs: [{ ...input, shape: [0n, 3n, 8n, 8n] }], rawInputContents: [Buffer.alloc(0)] },
    /batch of 0 samples/,
  );
  await bad({ outputs: [{ name: 'probabilities' }] }, /unknown output "probabilities", expected logits, tokens_kept/);
  await bad({ outputs: [{ name: 'logits' }, { name: 'logits' }] }, /output logits: asked for twice/);
  await refused(raw.modelInfer(rawRequest(9)), Status.INVALID_ARGUMENT, /batch of 9 samples, expected 1 to 8/);
  await refused(raw.modelMetadata({ name: 'a/..' }), Status.INVALID_ARGUMENT, /model_name/);
  await refused(raw.modelReady({ name: '../net' }), Status.INVALID_ARGUMENT, /name: expected/);

  for (const doubleParam of [NaN, Infinity, -0.1]) {
    await bad(
      { parameters: { budget: { doubleParam } } },
      /parameter budget: expected a finite number of nats, 0 or more/,
    );
  }
  await bad({ parameters: { budget: { stringParam: 'much' } } }, /parameter budget/);
  await bad({ parameters: { budget: { boolParam: true } } }, /parameter budget/);
  await bad({ modelVersion: '1', parameters: { budget: { doubleParam: -1 } } }, /parameter budget/);
  const withBudget = (values: number[], budgetShape: bigint[]) => ({
    inputs: [input, { name: 'budget', datatype: 'FP32', shape: budgetShape }],
    rawInputContents: [bytes, Buffer.from(Float32Array.from(values).buffer)],
  });
  await bad(withBudget([NaN], [1n, 1n]), /input budget: expected a finite number/);
  await bad(withBudget([-1], [1n, 1n]), /input budget: expected a finite number/);
  await bad(withBudget([1], [1n]), /input budget: shape \[1\], expected \[1, 1\]/);
  await bad(withBudget([1, 1], [2n, 1n]), /input budget: shape \[2, 1\], expected \[1, 1\]/);
  await bad(
    { modelVersion: '1', ...withBudget([1], [1n, 1n]) },
    /unknown input "budget", expected pixel_values, image/,
  );

  const image = (file: Uint8Array, extra = {}) => ({
    inputs: [{ name: 'image', datatype: 'BYTES', shape: [1n, 1n], ...extra }],
    rawInputContents: [joinBytes([file])],
  });
  await bad(image(Buffer.from('no image')), /image 0 of the request is not an image/);
  await bad(image(Buffer.alloc(0)), /image 0 of the request/);
  await bad(image(Buffer.from('x'), { shape: [1n] }), /input image: shape \[1\], expected \[batch, 1\]/);
  await bad(
    { ...image(Buffer.from('x')), rawInputContents: [Buffer.from([255, 255, 255, 255, 1])] },
    /not 1 elements, each behind its length/,
  );
  await bad(
    { inputs: [input, ...image(bytes).inputs], rawInputContents: [bytes, joinBytes([bytes])] },
    /expected one of them, not both/,
  );

  // Nothing of that has harmed the server.
  assert.deepEqual(floats(await raw.modelInfer(rawRequest(1, { modelVersion: '1' })), 'logits'), [0, 1, 2]);
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
  for await (const { errorMessage, inferResponse } of raw.modelStreamInfer(requests())) {
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

test('calls that are not served say so', async () => {
  const path = '/inference.GRPCInferenceService/RepositoryIndex';
  const method = { ...GRPCInferenceServiceDefinition.methods.serverLive, name: 'RepositoryIndex', path };
  const other = createClient(
    { ...GRPCInferenceServiceDefinition, methods: { serverLive: method } } as never,
    channel,
  ) as unknown as Client<GRPCInferenceServiceDefinition>;
  await assert.rejects(other.serverLive({}), { code: Status.UNIMPLEMENTED });
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
  const before = await Promise.all(series.map(metric));
  await client.infer({ model: 'net', version: 2, pixels: pixels(3), budget: 1 });
  await assert.rejects(client.infer({ model: 'absent', pixels: pixels(1) }), { code: 'NOT_FOUND' });
  await assert.rejects(client.infer({ model: 'net', pixels: pixels(1), budget: -1 }), { code: 'INVALID_ARGUMENT' });
  const grown = (await Promise.all(series.map(metric))).map((value, i) => value - (before[i] ?? 0));
  // Segments cost 1 + 10 t + t², at 17, 13 and 9 tokens.
  const flops = [17, 13, 9].reduce((sum, t) => sum + 1 + 10 * t + t * t, 0);
  const expected = [1, 3, 3 * flops, 3 * (9 / 17), 1, 1, 1, 1, 1, 1, 1];
  grown.forEach((value, i) =>
    assert.ok(Math.abs(value - (expected[i] ?? NaN)) < 1e-9, `${series[i]} grew by ${value}, not ${expected[i]}`),
  );

  const text = await metrics();
  assert.match(text, /^heartwood_model_ready\{model="net",version="1"\} 1$/m);
  assert.match(
    text,
    /^heartwood_model_info\{model="net",version="2",architecture="ViTForImageClassification",policy="curvature",default="true"\} 1$/m,
  );
  assert.match(text, /^heartwood_model_budget_nats\{model="net",version="2"\} 0\.25$/m);
  assert.match(text, /^heartwood_model_queue_length\{model="net",version="1"\} 0$/m);
  assert.doesNotMatch(text, /model="absent"|\.\.\/net/);
});

test('a new version is picked up; promote pins another one; a pin taken away gives the newest again', async () => {
  await publishGraph(repository, 'live', meanModel(100));
  await until(() => client.modelReady('live', 1));
  const which = async () => (await client.infer({ model: 'live', pixels: pixels(1) })).version;
  assert.equal(await which(), 1);
  await publishGraph(repository, 'live', meanModel(200), { parent: 1 });
  await until(() => client.modelReady('live', 2));
  assert.equal(await which(), 2);
  await client.promote('live', 1);
  assert.equal(await which(), 1);
  await publishGraph(repository, 'live', meanModel(300), { parent: 1 });
  await until(() => client.modelReady('live', 3));
  assert.equal(await which(), 1);
  const listed = await client.listVersions('live');
  assert.deepEqual(
    listed.map(({ version, default: isDefault, pinned, facts }) => [version, isDefault, pinned, facts?.parent]),
    [
      [1n, true, true, 0n],
      [2n, false, false, 1n],
      [3n, false, false, 1n],
    ],
  );
  await client.promote('live', 0);
  assert.equal(await which(), 3);
  await assert.rejects(client.promote('live', 9), { code: 'NOT_FOUND' });
  await assert.rejects(client.promote('../live', 1), { code: 'INVALID_ARGUMENT' });
  await repository.remove('live', 3);
  await until(async () => !(await client.modelReady('live', 3)));
  assert.equal(await which(), 2);
  await assert.rejects(client.infer({ model: 'live', version: 3, pixels: pixels(1) }), { code: 'NOT_FOUND' });
  assert.doesNotMatch(await metrics(), /heartwood_model_ready\{model="live",version="3"\}/);
});

test('a version that cannot be loaded is UNAVAILABLE with the reason, and nothing else suffers', async () => {
  await publishGraph(repository, 'fragile', meanModel());
  await until(() => client.modelReady('fragile'));
  const published = await repository.publish('fragile', async (directory) => {
    await appendFile(join(directory, 'model.onnx'), 'not a model');
    return { ...(await repository.readManifest('fragile', 1)), parent: 1 };
  });
  const stateOf = async (version: bigint) =>
    (await client.listVersions('fragile')).find((entry) => entry.version === version);
  await until(async () => ((await stateOf(2n))?.reason ?? '') !== '');
  assert.match((await stateOf(2n))?.reason ?? '', /model\.onnx: not a model that the runtime can load/);
  await assert.rejects(client.infer({ model: 'fragile', version: 2, pixels: pixels(1) }), {
    code: 'UNAVAILABLE',
    message: /version 2 of fragile: .*not a model/,
  });
  assert.equal((await client.infer({ model: 'fragile', pixels: pixels(1) })).version, 1);
  assert.match(await metrics(), /^heartwood_model_ready\{model="fragile",version="2"\} 0$/m);

  // A file that changed after it was published never reaches the runtime.
  const tampered = await repository.publish('tampered', async (directory) => {
    await appendFile(join(directory, 'model.onnx'), 'x');
    return repository.readManifest('fragile', 1);
  });
  assert.ok(published.version === 2 && tampered.version === 1);
  await until(async () => (await client.listVersions('tampered').catch(() => [])).length > 0);
  await assert.rejects(client.infer({ model: 'tampered', pixels: pixels(1) }), { code: 'UNAVAILABLE' });
});
