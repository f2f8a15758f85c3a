import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { ModelInferRequest } from '../../proto/gen/open_inference_grpc.js';
import { contracts } from './contracts.js';
import { weightOf } from './message-weight.js';

const kind = contracts.getMessage('inference.ModelInferRequest')!;
const MiB = 1024 * 1024;

function bytesOf(request: Parameters<typeof ModelInferRequest.fromPartial>[0]): Uint8Array {
  return ModelInferRequest.encode(ModelInferRequest.fromPartial(request)).finish();
}

setFlagsFromString('--expose-gc');
const gc = runInNewContext('gc') as () => void;

/** The bytes that the heap grows by when the message is decoded. */
function heapOf(bytes: Uint8Array): number {
  gc();
  const before = process.memoryUsage();
  const decoded = ModelInferRequest.decode(bytes);
  gc();
  const after = process.memoryUsage();
  assert.ok(decoded);
  return after.heapUsed - before.heapUsed;
}

test('raw contents weigh next to nothing, however long they are', () => {
  const inputs = [{ name: 'pixel_values', datatype: 'FP32', shape: [64n, 3n, 224n, 224n] }];
  const bytes = bytesOf({ modelName: 'vit', inputs, rawInputContents: [Buffer.alloc(38 * MiB)] });
  assert.ok(weightOf(bytes, kind, Infinity) < 4096);
});

test('typed floats weigh no more than four times their bytes', () => {
  const count = 100_000;
  const bytes = bytesOf({ inputs: [{ contents: { fp32Contents: new Array<number>(count).fill(1) } }] });
  assert.ok(weightOf(bytes, kind, Infinity) <= 4 * 4 * count + 4096);
});

test('what is small on the wire and large in memory weighs at least what it takes', () => {
  const count = 50_000;
  const requests: Parameters<typeof ModelInferRequest.fromPartial>[0][] = [
    { inputs: Array.from({ length: count }, () => ({})) },
    { outputs: Array.from({ length: count }, () => ({})) },
    { rawInputContents: Array.from({ length: count }, () => Buffer.alloc(0)) },
    { inputs: [{ shape: Array.from({ length: 10 * count }, (_, at) => BigInt(at % 128)) }] },
    { inputs: [{ contents: { int64Contents: Array.from({ length: 10 * count }, (_, at) => BigInt(at % 128)) } }] },
    { inputs: [{ contents: { boolContents: new Array<boolean>(10 * count).fill(true) } }] },
    { inputs: [{ contents: { bytesContents: Array.from({ length: count }, () => Buffer.alloc(0)) } }] },
    { parameters: Object.fromEntries(Array.from({ length: count }, (_, at) => [`p${at}`, { int64Param: 1n }])) },
  ];
  for (const request of requests) {
    const bytes = bytesOf(request);
    const field = Object.keys(request)[0];
    assert.ok(weightOf(bytes, kind, Infinity) >= heapOf(bytes), field);
  }
});

test('counting ends at the limit', () => {
  const bytes = Buffer.alloc(60 * MiB, Buffer.from([0x2a, 0]));
  const weight = weightOf(bytes, kind, MiB);
  assert.ok(weight > MiB && weight < 2 * MiB);
});

test('what is no message is said', () => {
  assert.throws(() => weightOf(Uint8Array.of(0x0a, 0x7f), kind, MiB));
  assert.throws(() => weightOf(Uint8Array.of(0x0b), kind, MiB));
});
