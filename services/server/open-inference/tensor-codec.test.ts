import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { TensorValue } from '../../../libs/runtime/tensor.js';
import type { InferTensorContents } from '../../../proto/gen/open_inference_grpc.js';
import { toTensorValue } from '../inference/wire-tensor.js';
import { decodeInput, encodeOutput, joinBytes } from './tensor-codec.js';

const input = (name: string, datatype: string, shape: bigint[], contents?: Partial<InferTensorContents>) => ({
  name,
  datatype,
  shape,
  parameters: {},
  contents: contents && {
    boolContents: [],
    intContents: [],
    int64Contents: [],
    uintContents: [],
    uint64Contents: [],
    fp32Contents: [],
    fp64Contents: [],
    bytesContents: [],
    ...contents,
  },
});

const arrays: Record<string, fc.Arbitrary<TensorValue['data']>> = {
  float32: fc.float32Array(),
  float64: fc.float64Array(),
  int64: fc.bigInt64Array(),
  int32: fc.int32Array(),
  int8: fc.int8Array(),
  uint8: fc.uint8Array(),
  bool: fc.uint8Array({ max: 1 }),
  string: fc.array(fc.string({ unit: 'grapheme' })),
};

test('what is encoded raw is decoded the same, from any offset of a buffer', () => {
  for (const [type, arbitrary] of Object.entries(arrays)) {
    fc.assert(
      fc.property(arbitrary, fc.nat(9), (data, offset) => {
        const value = { type, dims: [data.length], data } as TensorValue;
        const { tensor, raw } = encodeOutput('x', value);
        const shifted = Buffer.concat([Buffer.alloc(offset), raw]).subarray(offset);
        assert.deepEqual(
          toTensorValue(decodeInput({ ...tensor, parameters: {}, contents: undefined }, shifted)),
          value,
        );
      }),
      { numRuns: 30 },
    );
  }
});

test('typed contents are read from the field of their datatype', () => {
  const cases: [string, Partial<InferTensorContents>, TensorValue['data']][] = [
    ['FP32', { fp32Contents: [1.5, -2] }, Float32Array.of(1.5, -2)],
    ['FP64', { fp64Contents: [Math.PI, 0] }, Float64Array.of(Math.PI, 0)],
    ['INT64', { int64Contents: [-(2n ** 63n), 1n] }, BigInt64Array.of(-(2n ** 63n), 1n)],
    ['INT32', { intContents: [-5, 5] }, Int32Array.of(-5, 5)],
    ['INT8', { intContents: [-128, 127] }, Int8Array.of(-128, 127)],
    ['UINT8', { uintContents: [0, 255] }, Uint8Array.of(0, 255)],
    ['BOOL', { boolContents: [true, false] }, Uint8Array.of(1, 0)],
    ['BYTES', { bytesContents: [Buffer.from('a'), Buffer.from('ä')] }, ['a', 'ä']],
  ];
  for (const [datatype, contents, data] of cases) {
    assert.deepEqual(toTensorValue(decodeInput(input('x', datatype, [2n], contents), undefined)).data, data);
    assert.throws(() => decodeInput(input('x', datatype, [3n], contents), undefined), {
      code: 'INVALID_ARGUMENT',
      message: /input x: 2 elements in .*, expected 3 for its shape \[3\]/,
    });
  }
});

test('raw BYTES that are cut, overlong or miscounted are refused, whatever they are', () => {
  const raw = joinBytes([Buffer.from('oak'), Buffer.from('')]);
  const decode = (bytes: Uint8Array, count: bigint) => decodeInput(input('x', 'BYTES', [count]), bytes);
  assert.deepEqual(decode(raw, 2n).data, [Buffer.from('oak'), Buffer.from('')]);
  for (let length = 0; length < raw.length; length++) {
    assert.throws(() => decode(raw.subarray(0, length), 2n), { code: 'INVALID_ARGUMENT', message: /input x: / });
  }
  assert.throws(() => decode(raw, 1n), { code: 'INVALID_ARGUMENT' });
  assert.throws(() => decode(raw, 3n), { code: 'INVALID_ARGUMENT' });
  assert.throws(() => toTensorValue(decode(joinBytes([Buffer.from([0xff, 0xfe])]), 1n)), { message: /not UTF-8/ });
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), fc.bigInt(0n, 5n), (bytes, count) => {
      try {
        assert.equal(decode(bytes, count).data.length, Number(count));
      } catch (error) {
        assert.equal((error as { code?: string }).code, 'INVALID_ARGUMENT');
      }
    }),
  );
});
