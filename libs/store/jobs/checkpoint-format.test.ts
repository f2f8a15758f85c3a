import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { decodeCheckpoint, encodeCheckpoint } from './checkpoint-format.js';

function* cut(bytes: Uint8Array, size: number): Generator<Uint8Array> {
  for (let offset = 0; offset < bytes.length; offset += size) yield bytes.subarray(offset, offset + size);
}

const values = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 4 },
    fc.double(),
    fc.string({ unit: 'binary' }),
    fc.boolean(),
    fc.bigInt(),
    fc.constantFrom(null, undefined, -0, NaN, Infinity, -Infinity),
    fc.float32Array({ maxLength: 9 }),
    fc.float64Array({ maxLength: 5 }),
    fc.uint8Array({ maxLength: 7 }),
    fc.int32Array({ maxLength: 5 }),
    fc.array(tie('value'), { maxLength: 4 }),
    fc.dictionary(fc.oneof(fc.string(), fc.constantFrom('$array', '$number', '$', '__proto__', 'a')), tie('value'), {
      maxKeys: 4,
      noNullPrototype: true,
    }),
  ),
})).value;

test('property: what is decoded is exactly what was encoded, whatever the chunks', async () => {
  await fc.assert(
    fc.asyncProperty(values, fc.integer({ min: 1, max: 64 }), async (value, size) => {
      const bytes = Buffer.concat(encodeCheckpoint(value));
      assert.deepStrictEqual((await decodeCheckpoint(cut(bytes, size)))?.value, value);
    }),
    { numRuns: 300 },
  );
});

test('every bit of an array is kept, views are cut to their part, arrays do not share memory', async () => {
  const all = new Float32Array(new Uint32Array([0x7fc00001, 0xff800000, 0x80000000, 0x00000001, 0x3f800000]).buffer);
  const bytes = Buffer.concat(encodeCheckpoint({ whole: all, part: all.subarray(1, 3), again: all }));
  const { whole, part, again } = (await decodeCheckpoint([bytes]))!.value as Record<string, Float32Array>;
  assert.deepEqual(Buffer.from(whole!.buffer), Buffer.from(all.buffer));
  assert.deepEqual(Buffer.from(part!.buffer), Buffer.from(all.buffer).subarray(4, 12));
  assert.notEqual(again!.buffer, whole!.buffer);
});

test('a truncated or changed checkpoint is no checkpoint', async () => {
  const bytes = Buffer.concat(encodeCheckpoint({ a: [1, 2, 'three'], b: new Float32Array([1, 2, 3]) }));
  for (let length = 0; length < bytes.length; length++)
    assert.equal(await decodeCheckpoint([bytes.subarray(0, length)]), undefined, `cut to ${length}`);
  for (let index = 0; index < bytes.length; index++) {
    const changed = Buffer.from(bytes);
    changed[index]! ^= 1;
    assert.equal(await decodeCheckpoint([changed]), undefined, `byte ${index} changed`);
  }
});

test('what could not be given back is refused with its place', () => {
  assert.throws(() => encodeCheckpoint({ a: [1, new Map()] }), /value\.a\[1\] is a Map/);
  assert.throws(() => encodeCheckpoint({ when: new Date() }), /value\.when is a Date/);
  assert.throws(() => encodeCheckpoint({ f: () => 1 }), /value\.f is a function/);
});
