import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { createClient, Status } from 'nice-grpc';
import {
  type ServerReflectionRequest,
  ServerReflectionDefinition,
} from '../../proto/gen/grpc/reflection/v1/reflection.js';
import type { DeepPartial } from '../../proto/gen/open_inference_grpc.js';
import { AlphaReflectionDefinition } from '../grpc/reflection.js';
import { liveServer, type LiveServer } from './testing/live-server.js';

let live: LiveServer;
before(async () => {
  live = await liveServer();
});
after(() => live.stop());

const buf = join(dirname(createRequire(import.meta.url).resolve('@bufbuild/buf/package.json')), 'bin/buf');
const run = promisify(execFile);
const curl = async (...options: string[]) => {
  const flags = ['curl', '--http2-prior-knowledge', '--protocol', 'grpc', ...options];
  return (await run(process.execPath, [buf, ...flags], { timeout: 300_000 })).stdout;
};
const skip = existsSync(buf) ? false : 'buf is not installed';

test('a client that knows nothing of the services lists them, describes them and calls them', { skip }, async () => {
  const base = `http://${live.address}`;
  const services = (await curl('--list-services', base)).trim().split('\n').sort();
  const expected = [
    'grpc.health.v1.Health',
    'grpc.reflection.v1.ServerReflection',
    'heartwood.serving.v1.ServingService',
  ];
  assert.deepEqual(services, [...expected, 'inference.GRPCInferenceService']);
  const listed = (await curl('--list-methods', base)).split('\n');
  for (const method of ['inference.GRPCInferenceService/ModelInfer', 'heartwood.serving.v1.ServingService/Promote'])
    assert.ok(listed.includes(method), method);
  const metadata = await curl('-d', '{"name":"net"}', `${base}/inference.GRPCInferenceService/ModelMetadata`);
  assert.deepEqual((JSON.parse(metadata) as { versions: string[] }).versions, ['1', '2']);
  const health = await curl('-d', '{"service":"net/2"}', `${base}/grpc.health.v1.Health/Check`);
  assert.deepEqual(JSON.parse(health), { status: 'SERVING' });
});

test('both versions of the service answer by file, by symbol and for what is not there', async () => {
  async function* requests(): AsyncGenerator<DeepPartial<ServerReflectionRequest>> {
    yield { fileByFilename: 'open_inference_grpc.proto' };
    yield { fileContainingSymbol: 'inference.ModelInferRequest.InferInputTensor' };
    yield { fileContainingSymbol: 'inference.GRPCInferenceService.ModelInfer' };
    yield { allExtensionNumbersOfType: 'inference.ModelInferRequest' };
    yield { fileContainingSymbol: 'inference.Absent' };
    yield { fileContainingSymbol: '' };
    yield { fileByFilename: '../../etc/passwd' };
    yield { fileContainingExtension: { containingType: 'inference.ModelInferRequest', extensionNumber: 1 } };
    yield {};
  }
  for (const definition of [ServerReflectionDefinition, AlphaReflectionDefinition]) {
    const codes: (number | undefined)[] = [];
    for await (const answer of createClient(definition, live.channel).serverReflectionInfo(requests())) {
      codes.push(answer.errorResponse?.errorCode);
      const [file] = answer.fileDescriptorResponse?.fileDescriptorProto ?? [];
      if (codes.length <= 3)
        assert.ok(Buffer.from(file ?? []).includes('open_inference_grpc.proto'), definition.fullName);
      assert.ok(answer.originalRequest);
    }
    const { NOT_FOUND, INVALID_ARGUMENT } = Status;
    const failed = [NOT_FOUND, NOT_FOUND, NOT_FOUND, NOT_FOUND, INVALID_ARGUMENT];
    assert.deepEqual(codes, [undefined, undefined, undefined, undefined, ...failed]);
  }
});
