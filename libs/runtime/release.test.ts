import assert from 'node:assert/strict';
import { test } from 'node:test';
import { release } from './release.js';

const MiB = 2 ** 20;

test('memory that is released is free at once, without a collection', () => {
  const before = process.memoryUsage().arrayBuffers;
  let most = 0;
  for (let i = 0; i < 500; i++) {
    const data = new Float32Array(MiB);
    most = Math.max(most, process.memoryUsage().arrayBuffers - before);
    release(data);
    assert.equal(data.length, 0);
  }
  assert.ok(most < 16 * MiB, `${most / MiB} MiB`);
});

test('a view gives the whole of its memory back, once', () => {
  const whole = new Uint8Array(MiB);
  const [first, second] = [whole.subarray(0, 10), whole.subarray(10)];
  release(first);
  release(second);
  assert.deepEqual([whole.length, first.length, second.length], [0, 0, 0]);
});

test('what others may have a part in stays', () => {
  const pooled = Buffer.from('in the memory that small Buffers share');
  const shared = new Uint8Array(new SharedArrayBuffer(MiB)).fill(1);
  release(pooled);
  release(shared);
  assert.equal(pooled.toString(), 'in the memory that small Buffers share');
  assert.equal(shared.length, MiB);
});
