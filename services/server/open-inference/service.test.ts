import assert from 'node:assert/strict';
import { appendFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { Status } from 'nice-grpc';
import type { ModelInferResponse } from '../../../proto/gen/open_inference_grpc.js';
import { DataType, ModelInput_Format } from '../../../proto/gen/open_inference_config.js';
import { meanModel, publishGraph } from '../testing/fixture-models.js';
import { liveServer, type LiveServer, pixels, rawRequest, refused } from '../testing/live-server.js';
import { decodeInput } from './tensor-codec.js';

let live: LiveServer;
before(async () => {
  live = await liveServer({
    loadControl: 'explicit',
    loadModels: ['net'],
    preferredBatches: [2, 6],
    queueDelayMs: 1.5,
    workers: 2,
  });
});
after(() => live.stop());

function texts(response: ModelInferResponse, name: string): { shape: bigint[]; values: string[] } {
  const at = response.outputs.findIndex((output) => output.name === name);
  const output = response.outputs[at]!;
  assert.equal(output.datatype, 'BYTES');
  const { data } = decodeInput(output, response.rawOutputContents[at]);
  return { shape: output.shape, values: (data as Uint8Array[]).map((bytes) => Buffer.from(bytes).toString()) };
}

test('the server advertises what works', async () => {
  const { extensions } = await live.raw.serverMetadata({});
  assert.deepEqual([...extensions].sort(), [
    'classification',
    'model_configuration',
    'model_repository',
    'parameters',
    'schedule_policy',
    'statistics',
  ]);
});

test('ModelConfig says how a version is served', async () => {
  const { config } = await live.raw.modelConfig({ name: 'net' });
  assert.equal(config?.name, 'net');
  assert.equal(config?.maxBatchSize, 8);
  assert.deepEqual(config?.versionPolicy, { latest: undefined, all: {}, specific: undefined });
  assert.deepEqual(
    config?.input.map(({ name, dataType, format, dims, optional }) => [name, dataType, format, dims, optional]),
    [
      ['pixel_values', DataType.TYPE_FP32, ModelInput_Format.FORMAT_NCHW, [3n, 8n, 8n], false],
      ['budget', DataType.TYPE_FP32, ModelInput_Format.FORMAT_NONE, [1n], true],
      ['image', DataType.TYPE_STRING, ModelInput_Format.FORMAT_NONE, [1n], true],
    ],
  );
  assert.deepEqual(config?.output, [
    { name: 'logits', dataType: DataType.TYPE_FP32, dims: [3n] },
    { name: 'tokens_kept', dataType: DataType.TYPE_INT32, dims: [2n] },
  ]);
  assert.equal(config?.parameters['policy']?.stringValue, 'curvature');
  assert.deepEqual(
    config?.modelWarmup.map(({ batchSize }) => batchSize),
    [1, 6],
  );
  assert.deepEqual(
    config?.instanceGroup.map(({ count }) => count),
    [2],
  );
  const batching = config?.dynamicBatching;
  assert.deepEqual(
    [batching?.preferredBatchSize, batching?.maxQueueDelayMicroseconds, batching?.defaultQueuePolicy?.maxQueueSize],
    [[2, 6], 1500n, 128],
  );
  assert.deepEqual([batching?.priorityLevels, batching?.defaultPriorityLevel], [199n, 100n]);
  assert.deepEqual(
    (await live.raw.modelConfig({ name: 'net', version: '1' })).config?.input.map(({ name }) => name),
    ['pixel_values', 'image'],
  );
  await refused(live.raw.modelConfig({ name: 'absent' }), Status.NOT_FOUND, /model absent/);
  await refused(live.raw.modelConfig({ name: 'net', version: '9' }), Status.NOT_FOUND, /version 9 of net/);
  await refused(live.raw.modelConfig({ name: 'net', version: 'x' }), Status.INVALID_ARGUMENT, /model_version/);
});

test('ModelStatistics counts requests, samples, executions and their durations', async () => {
  const read = async (request: { name?: string; version?: string }) =>
    (await live.raw.modelStatistics(request)).modelStats;
  const [start] = await read({ name: 'net', version: '2' });
  await live.raw.modelInfer(rawRequest(2));
  await live.raw.modelInfer(rawRequest(3));
  await assert.rejects(live.raw.modelInfer(rawRequest(1, { rawInputContents: [] })));
  const [end, ...rest] = await read({ name: 'net', version: '2' });
  assert.equal(rest.length, 0);
  assert.deepEqual([end?.name, end?.version], ['net', '2']);
  assert.equal(end!.inferenceCount - start!.inferenceCount, 5n);
  assert.equal(end!.executionCount - start!.executionCount, 2n);
  assert.ok(Math.abs(Number(end!.lastInference) - Date.now()) < 60_000);
  const { success, fail, queue, computeInput, computeInfer, computeOutput } = end!.inferenceStats!;
  assert.equal(fail!.count - start!.inferenceStats!.fail!.count, 1n);
  for (const part of [success, queue, computeInput, computeInfer, computeOutput]) {
    assert.equal(part!.count, success!.count);
    assert.ok(part!.ns <= success!.ns);
  }
  assert.ok(computeInfer!.ns > 0n);
  const sizes = end!.batchStats.map(({ batchSize }) => batchSize);
  assert.ok(sizes.includes(2n) && sizes.includes(3n));

  assert.deepEqual(
    (await read({ name: 'net' })).map(({ version }) => version),
    ['1', '2'],
  );
  assert.deepEqual(
    (await read({})).map(({ name, version }) => `${name} ${version}`),
    ['net 1', 'net 2'],
  );
  await refused(live.raw.modelStatistics({ name: 'absent' }), Status.NOT_FOUND, /model absent/);
  await refused(live.raw.modelStatistics({ name: 'net', version: '9' }), Status.NOT_FOUND, /version 9 of net/);
});

test('the index, loading and unloading', async () => {
  const index = async (ready = false) =>
    (await live.raw.repositoryIndex({ ready })).models.map(
      ({ name, version, state, reason }) => `${name}/${version} ${state}${reason ? `: ${reason}` : ''}`,
    );
  const load = (modelName: string) => live.raw.repositoryModelLoad({ modelName });
  const unload = (modelName: string) => live.raw.repositoryModelUnload({ modelName });
  await publishGraph(live.repository, 'other', meanModel());
  assert.deepEqual(await index(), ['net/1 READY', 'net/2 READY', 'other/1 UNAVAILABLE: it is not loaded']);
  assert.deepEqual(await index(true), ['net/1 READY', 'net/2 READY']);
  await load('other');
  assert.equal((await live.client.infer({ model: 'other', pixels: pixels(1) })).version, 1);

  await live.repository.publish('other', async (directory) => {
    await appendFile(`${directory}/model.onnx`, 'not a model');
    return { ...(await live.repository.readManifest('other', 1)), parent: 1 };
  });
  await refused(
    load('other'),
    Status.INVALID_ARGUMENT,
    /^load failed for model 'other': version 2 is at UNAVAILABLE state: .*not a model/,
  );
  const [, , good, bad] = await index();
  assert.equal(good, 'other/1 READY');
  assert.match(bad ?? '', /^other\/2 UNAVAILABLE: .*not a model/);
  assert.equal((await live.client.infer({ model: 'other', pixels: pixels(1) })).version, 1);

  await unload('other');
  await refused(
    live.raw.modelInfer(rawRequest(1, { modelName: 'other', modelVersion: '1' })),
    Status.UNAVAILABLE,
    /version 1 of other: unloaded/,
  );
  assert.ok((await index()).includes('other/1 UNAVAILABLE: unloaded'));
  await unload('other');
  await unload('absent');
  await refused(load('absent'), Status.INTERNAL, /^failed to load 'absent', failed to poll from model repository/);
  await refused(load('../net'), Status.INVALID_ARGUMENT, /model_name/);
  await refused(unload('../net'), Status.INVALID_ARGUMENT, /model_name/);

  const named = { repositoryName: 'elsewhere', modelName: 'net' };
  await refused(live.raw.repositoryIndex(named), Status.UNIMPLEMENTED, /repository_name/);
  await refused(live.raw.repositoryModelLoad(named), Status.UNIMPLEMENTED, /repository_name/);
  await refused(live.raw.repositoryModelUnload(named), Status.UNIMPLEMENTED, /repository_name/);
  for (const name of ['config', 'file:1/model.onnx']) {
    const parameters = { [name]: { stringParam: '{}' } };
    await refused(live.raw.repositoryModelLoad({ modelName: 'net', parameters }), Status.UNIMPLEMENTED, /overrides/);
  }
  await live.raw.repositoryModelUnload({ modelName: 'other', parameters: { unload_dependents: { boolParam: true } } });
});

test('a version is unloaded when the requests it has are answered', async () => {
  await publishGraph(live.repository, 'leaving', meanModel());
  await live.raw.repositoryModelLoad({ modelName: 'leaving' });
  const answers = Array.from({ length: 6 }, () => live.client.infer({ model: 'leaving', pixels: pixels(8) }));
  // One answer says that the others have arrived too: the requests of a connection come in order.
  await answers[0];
  await live.raw.repositoryModelUnload({ modelName: 'leaving' });
  for (const answer of await Promise.all(answers)) assert.equal(answer.version, 1);
});

test('promoting works under explicit control', async () => {
  await live.client.promote('net', 1);
  assert.equal((await live.client.infer({ model: 'net', pixels: pixels(1) })).version, 1);
  await live.client.promote('net', 0);
  assert.equal((await live.client.infer({ model: 'net', pixels: pixels(1) })).version, 2);
});

test('where the repository or nothing decides, loading by a call is refused as Triton refuses it', async () => {
  for (const loadControl of ['poll', 'none'] as const) {
    const other = await liveServer({ loadControl });
    try {
      for (const call of [other.raw.repositoryModelLoad, other.raw.repositoryModelUnload]) {
        const message = /^explicit model load \/ unload is not allowed if polling is enabled/;
        await refused(call({ modelName: 'net' }), Status.UNAVAILABLE, message);
      }
      assert.equal((await other.raw.repositoryIndex({})).models.length, 2);
      assert.equal((await other.client.infer({ model: 'net', pixels: pixels(1) })).version, 2);
    } finally {
      await other.stop();
    }
  }
});

test('classification answers the greatest with their labels, beside plain outputs', async () => {
  const outputs = (count: bigint) => [
    { name: 'logits', parameters: { classification: { int64Param: count } } },
    { name: 'tokens_kept' },
  ];
  const response = await live.raw.modelInfer(rawRequest(2, { outputs: outputs(2n) }));
  assert.deepEqual(texts(response, 'logits'), {
    shape: [2n, 2n],
    values: ['2.250000:2:blue', '1.250000:1:green', '12.250000:2:blue', '11.250000:1:green'],
  });
  assert.deepEqual(response.outputs[1]?.datatype, 'INT32');
  assert.deepEqual(texts(await live.raw.modelInfer(rawRequest(1, { outputs: outputs(99n) })), 'logits').shape, [
    1n,
    3n,
  ]);
  const kept = [{ name: 'tokens_kept', parameters: { classification: { int64Param: 1n } } }];
  assert.deepEqual(texts(await live.raw.modelInfer(rawRequest(1, { outputs: kept })), 'tokens_kept').values, ['16:0']);
  for (const bad of [{ int64Param: 0n }, { int64Param: -1n }, { stringParam: '2' }]) {
    const refusedOutputs = [{ name: 'logits', parameters: { classification: bad } }];
    await refused(
      live.raw.modelInfer(rawRequest(1, { outputs: refusedOutputs })),
      Status.INVALID_ARGUMENT,
      /output logits: parameter classification/,
    );
  }
});

test('a stream marks each answer as its request’s last; parameters are checked there too', async () => {
  async function* requests() {
    yield rawRequest(1, { id: 'a', parameters: { triton_enable_empty_final_response: { boolParam: true } } });
    yield rawRequest(1, { id: 'b', parameters: { priority: { stringParam: 'high' } } });
    yield rawRequest(1, {
      id: 'c',
      parameters: { priority: { uint64Param: 1n }, timeout: { int64Param: 60_000_000n } },
    });
  }
  const answers: [string | undefined, boolean | undefined, string][] = [];
  for await (const { errorMessage, inferResponse } of live.raw.modelStreamInfer(requests()))
    answers.push([inferResponse?.id, inferResponse?.parameters['triton_final_response']?.boolParam, errorMessage]);
  assert.deepEqual(answers, [
    ['a', true, ''],
    ['b', true, 'parameter priority: expected an int64_param or uint64_param'],
    ['c', true, ''],
  ]);
});

test('what is not served says so', async () => {
  const calls = [
    live.raw.systemSharedMemoryStatus({}),
    live.raw.systemSharedMemoryRegister({ name: 'a', key: '/a', byteSize: 1n }),
    live.raw.systemSharedMemoryUnregister({ name: 'a' }),
    live.raw.cudaSharedMemoryStatus({}),
    live.raw.cudaSharedMemoryRegister({ name: 'a', rawHandle: Buffer.from('a'), byteSize: 1n }),
    live.raw.cudaSharedMemoryUnregister({ name: 'a' }),
    live.raw.traceSetting({ settings: { trace_level: { value: ['TIMESTAMPS'] } } }),
    live.raw.logSettings({ settings: { log_info: { boolParam: true } } }),
  ];
  for (const call of calls) await refused(call, Status.UNIMPLEMENTED, /not supported/);
  const region = { shared_memory_region: { stringParam: 'a' }, shared_memory_byte_size: { int64Param: 768n } };
  const shape = [1n, 3n, 8n, 8n];
  const inputs = [{ name: 'pixel_values', datatype: 'FP32', shape, parameters: region }];
  await refused(
    live.raw.modelInfer({ modelName: 'net', inputs }),
    Status.UNIMPLEMENTED,
    /input pixel_values: shared memory/,
  );
  const outputs = [{ name: 'logits', parameters: region }];
  await refused(live.raw.modelInfer(rawRequest(1, { outputs })), Status.UNIMPLEMENTED, /output logits: shared memory/);
});
