import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { status } from '@grpc/grpc-js';
import protobuf from 'protobufjs';
import { liveServer, type LiveServer, pixels } from '../../services/server/testing/live-server.js';
import { calls, streamCall } from './contract.js';
import { contractRoot, type Message, WireClient } from './wire-client.js';

const protoFolder = fileURLToPath(new URL('../../../proto/', import.meta.url));

let live: LiveServer;
let client: WireClient;
before(async () => {
  live = await liveServer({ loadControl: 'explicit', loadModels: ['*'] });
  client = new WireClient(`127.0.0.1:${live.grpcPort}`);
});
after(async () => {
  client.close();
  await live.stop();
});

const served = ['pixel_values', 'FP32', [2, 3, 8, 8]] as const;
function request(extra: Message = {}): Message {
  const [name, datatype, shape] = served;
  const raw = Buffer.from(pixels(2).data.buffer);
  return { model_name: 'net', inputs: [{ name, datatype, shape }], raw_input_contents: [raw], ...extra };
}
const floats = (bytes: Uint8Array) => Array.from(new Float32Array(new Uint8Array(bytes).buffer));

test('our messages are the contract’s: every field has its number, its type and its oneof', async () => {
  const ours = new protobuf.Root();
  ours.resolvePath = (_, target) => `${protoFolder}${target}`;
  await ours.load(['open_inference_grpc.proto'], { keepCase: true });
  ours.resolveAll();
  const contract = contractRoot();
  const describe = (field: protobuf.Field) => ({
    number: field.id,
    type: field.resolvedType?.fullName ?? field.type,
    key: field instanceof protobuf.MapField ? field.keyType : undefined,
    repeated: field.repeated,
    oneof: field.partOf?.name,
  });
  let fields = 0;
  const compare = (space: protobuf.NamespaceBase): void => {
    for (const entry of space.nestedArray) {
      if (entry instanceof protobuf.Enum)
        assert.deepEqual({ ...entry.values }, { ...contract.lookupEnum(entry.fullName).values });
      if (entry instanceof protobuf.Type) {
        const theirs = contract.lookupType(entry.fullName);
        for (const field of entry.fieldsArray) {
          const counterpart = theirs.fields[field.name];
          assert.ok(counterpart, `${entry.fullName}.${field.name} is not in the contract`);
          assert.deepEqual(describe(field), describe(counterpart), `${entry.fullName}.${field.name}`);
          fields++;
        }
        // What a client may send has to be known whole.
        if (entry.name.endsWith('Request') || entry.name.startsWith('Infer'))
          assert.deepEqual(Object.keys(entry.fields).sort(), Object.keys(theirs.fields).sort(), entry.fullName);
      }
      if (entry instanceof protobuf.Namespace) compare(entry);
    }
  };
  compare(ours.lookup('inference') as protobuf.Namespace);
  assert.ok(fields > 150, `${fields} fields were compared`);

  const service = ours.lookupService('inference.GRPCInferenceService');
  assert.deepEqual(Object.keys(service.methods).sort(), [...calls].sort());
  for (const [name, method] of Object.entries(service.methods)) {
    const streamed = name === streamCall.name;
    const messages = streamed ? streamCall : { request: `${name}Request`, response: `${name}Response` };
    assert.deepEqual([method.requestType, method.responseType], [messages.request, messages.response]);
    assert.deepEqual([method.requestStream ?? false, method.responseStream ?? false], [streamed, streamed]);
  }
});

test('health and metadata', async () => {
  assert.equal((await client.call('ServerLive'))['live'], true);
  assert.equal((await client.call('ServerReady'))['ready'], true);
  assert.equal((await client.call('ModelReady', { name: 'net', version: '1' }))['ready'], true);
  assert.equal((await client.call('ModelReady', { name: 'absent' }))['ready'], false);
  const metadata = await client.call('ServerMetadata');
  assert.equal(metadata['name'], 'heartwood');
  assert.ok((metadata['extensions'] as string[]).includes('statistics'));
  const model = await client.call('ModelMetadata', { name: 'net' });
  assert.deepEqual(model['versions'], ['1', '2']);
  assert.deepEqual(model['inputs'][0], { name: 'pixel_values', datatype: 'FP32', shape: ['-1', '3', '8', '8'] });
});

test('inference: raw and typed contents, parameters, classification', async () => {
  const answer = await client.call(
    'ModelInfer',
    request({ id: 'seven', parameters: { budget: { double_param: 0.5 } } }),
  );
  assert.deepEqual([answer['id'], answer['model_version']], ['seven', '2']);
  assert.deepEqual(answer['outputs'][0].shape, ['2', '3']);
  assert.deepEqual(floats(answer['raw_output_contents'][0]), [0.5, 1.5, 2.5, 10.5, 11.5, 12.5]);

  const [name, datatype, shape] = served;
  const contents = { fp32_contents: Array.from(pixels(2).data) };
  const parameters = { priority: { uint64_param: 1 }, timeout: { int64_param: 60_000_000 } };
  const outputs = [{ name: 'logits', parameters: { classification: { int64_param: 1 } } }];
  const classified = await client.call('ModelInfer', {
    model_name: 'net',
    model_version: '1',
    inputs: [{ name, datatype, shape, contents }],
    outputs,
    parameters,
  });
  assert.deepEqual([classified['outputs'][0].datatype, classified['outputs'][0].shape], ['BYTES', ['2', '1']]);
  const raw = Buffer.from(classified['raw_output_contents'][0]);
  assert.equal(raw.readUInt32LE(0), '2.000000:2:blue'.length);
  assert.equal(raw.subarray(4, 19).toString(), '2.000000:2:blue');
  assert.equal(raw.subarray(23).toString(), '12.000000:2:blue');
});

test('a stream: an error in its place, and the mark of the last answer', async () => {
  const final = { triton_enable_empty_final_response: { bool_param: true } };
  const answers = await client.stream([
    request({ id: 'a', parameters: final }),
    request({ id: 'b', model_name: 'absent', parameters: final }),
    request({ id: 'c', parameters: final }),
  ]);
  const said = answers.map(({ error_message: message, infer_response: response }): unknown[] => [
    response.id,
    response.parameters['triton_final_response'].bool_param,
    message,
  ]);
  assert.deepEqual(said, [
    ['a', true, ''],
    ['b', true, 'model absent: not in the repository'],
    ['c', true, ''],
  ]);
});

test('configuration and statistics', async () => {
  const { config } = await client.call('ModelConfig', { name: 'net' });
  assert.deepEqual([config.name, config.max_batch_size, config.backend], ['net', 8, 'onnxruntime']);
  assert.deepEqual(config.input[0], {
    ...{ name: 'pixel_values', data_type: 'TYPE_FP32', format: 'FORMAT_NCHW', dims: ['3', '8', '8'], optional: false },
    ...{ reshape: null, is_shape_tensor: false, allow_ragged_batch: false, is_non_linear_format_io: false },
  });
  assert.equal(config.version_policy.policy_choice, 'all');
  assert.equal(config.scheduling_choice, 'dynamic_batching');
  const { model_stats: statistics } = await client.call('ModelStatistics', { name: 'net', version: '2' });
  assert.equal(statistics.length, 1);
  // Three requests of two samples, and one of a stream named a model that is not there.
  assert.deepEqual([statistics[0].inference_count, statistics[0].inference_stats.success.count], ['6', '3']);
  assert.ok(Number(statistics[0].inference_stats.compute_infer.ns) > 0);
});

test('the repository: index, unload, load', async () => {
  const index = async (query: Message) => {
    const { models } = await client.call('RepositoryIndex', query);
    return (models as Message[]).map((entry) => Object.values(entry).join(' ').trim());
  };
  assert.deepEqual(await index({}), ['net 1 READY', 'net 2 READY']);
  await client.call('RepositoryModelUnload', {
    model_name: 'net',
    parameters: { unload_dependents: { bool_param: false } },
  });
  assert.deepEqual(await index({}), ['net 1 UNAVAILABLE unloaded', 'net 2 UNAVAILABLE unloaded']);
  assert.deepEqual(await index({ ready: true }), []);
  await assert.rejects(client.call('ModelInfer', request()), { code: status.UNAVAILABLE });
  await client.call('RepositoryModelLoad', { model_name: 'net' });
  assert.deepEqual(await index({ ready: true }), ['net 1 READY', 'net 2 READY']);
  await assert.rejects(client.call('RepositoryModelLoad', { model_name: 'absent' }), { code: status.INTERNAL });
});

test('what is not served answers UNIMPLEMENTED, whatever it is asked', async () => {
  const requests: Record<string, Message> = {
    SystemSharedMemoryStatus: { name: 'a' },
    SystemSharedMemoryRegister: { name: 'a', key: '/a', offset: 1, byte_size: 2 },
    SystemSharedMemoryUnregister: { name: 'a' },
    CudaSharedMemoryStatus: { name: 'a' },
    CudaSharedMemoryRegister: { name: 'a', raw_handle: Buffer.from('h'), device_id: 0, byte_size: 2 },
    CudaSharedMemoryUnregister: {},
    TraceSetting: { settings: { trace_level: { value: ['OFF'] } }, model_name: 'net' },
    LogSettings: { settings: { log_verbose_level: { uint32_param: 1 } } },
  };
  for (const [name, message] of Object.entries(requests))
    await assert.rejects(client.call(name, message), { code: status.UNIMPLEMENTED, details: /not supported/ }, name);
});
