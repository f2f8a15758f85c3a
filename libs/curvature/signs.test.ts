import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { drawSigns } from './signs.js';

function signs(length: number, ...key: number[]): Float32Array {
  const out = new Float32Array(length);
  drawSigns(out, ...key);
  return out;
}

test('a key gives the same signs always, another key others', () => {
  const key = fc.array(fc.integer({ min: 0, max: 2 ** 40 }), { minLength: 4, maxLength: 4 });
  fc.assert(
    fc.property(key, fc.nat(3), (parts, changed) => {
      const first = signs(96, ...parts);
      assert.deepEqual(signs(96, ...parts), first);
      assert.ok(first.every((sign) => Math.abs(sign) === 1));
      assert.notDeepEqual(signs(96, ...parts.with(changed, parts[changed]! + 1)), first);
    }),
  );
});

test('signs have mean 0 and no correlation, over places, samples and probes', () => {
  const [n, keys] = [40, 20_000];
  const mean = new Float64Array(n);
  const withNext = new Float64Array(n);
  const withNextKey = new Float64Array(n);
  let before = signs(n, 1, 0, 0, -1);
  for (let key = 0; key < keys; key++) {
    const drawn = signs(n, 1, 0, Math.floor(key / 100), key % 100);
    for (let i = 0; i < n; i++) {
      mean[i]! += drawn[i]! / keys;
      withNext[i]! += (drawn[i]! * drawn[(i + 1) % n]!) / keys;
      withNextKey[i]! += (drawn[i]! * before[i]!) / keys;
    }
    before = drawn;
  }
  for (const list of [mean, withNext, withNextKey]) {
    for (const value of list) assert.ok(Math.abs(value) < 4.5 / Math.sqrt(keys), String(value));
  }
});
