import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { augment } from './augment.js';
import { readBatch, splitIndices } from './batch.js';
import type { Dataset } from './dataset.js';
import { distort } from './distortion.js';
import { randomFor } from './random.js';

const counting: Dataset = {
  name: 'counting',
  digest: '',
  size: 100,
  classes: undefined,
  labelled: true,
  read: (index) => Promise.resolve({ pixels: Float32Array.of(index, -index), label: index % 7, name: `#${index}` }),
  image: () => Promise.resolve(undefined),
};

test('a batch is in the order asked for, beyond what is read at once', async () => {
  const indices = Array.from({ length: 40 }, (_, at) => (at * 37) % 100);
  const { pixels, labels } = await readBatch(counting, indices);
  assert.deepEqual(
    [...pixels],
    indices.flatMap((index) => [index, -index]),
  );
  assert.deepEqual(
    [...(labels ?? [])],
    indices.map((index) => index % 7),
  );
  const unlabelled = await readBatch({ ...counting, labelled: false }, [1]);
  assert.equal(unlabelled.labels, undefined);
});

test('splits are disjoint, in range, of the sizes asked for, and the same for the same seed', () => {
  fc.assert(
    fc.property(fc.integer({ min: 20, max: 400 }), fc.integer(), (size, seed) => {
      const fractions = { fit: 0.5, search: 0.2, certify: 0.3 };
      const parts = splitIndices(size, seed, fractions);
      const all = Object.values(parts).flat();
      assert.equal(new Set(all).size, size);
      assert.ok(all.every((index) => Number.isInteger(index) && index >= 0 && index < size));
      assert.ok(Math.abs(parts.fit.length - size / 2) <= 1 && Math.abs(parts.certify.length - size * 0.3) <= 1);
      assert.deepEqual(splitIndices(size, seed, fractions), parts);
    }),
  );
});

test('splits that cannot be are refused', () => {
  assert.throws(
    () => splitIndices(3, 0, { fit: 0.9, search: 0.05, certify: 0.05 }),
    /the data: 3 samples are too few to split, expected at least 16: the part 'search' would be empty/,
  );
  const thirds = { fit: 0.4, search: 0.3, certify: 0.3 };
  assert.throws(() => splitIndices(1, 0, thirds, 'cats.safetensors'), {
    code: 'INVALID_ARGUMENT',
    message: /^cats\.safetensors: 1 samples are too few to split, expected at least 3: the part 'fit' would be empty$/,
  });
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 30 }), fc.double({ min: 0.02, max: 0.9, noNaN: true }), (size, fit) => {
      const fractions = { fit, search: (1 - fit) / 2, certify: (1 - fit) / 2 };
      try {
        splitIndices(size, 0, fractions);
      } catch (error) {
        const wanted = Number(/at least (\d+)/.exec((error as Error).message)?.[1]);
        for (let below = size; below < wanted; below++) assert.throws(() => splitIndices(below, 0, fractions));
        splitIndices(wanted, 0, fractions);
      }
    }),
  );
  assert.throws(() => splitIndices(9, 0, { fit: 0.9, search: 0.2, certify: 0.2 }), /add up to at most 1/);
  assert.throws(() => splitIndices(9, 0, { fit: 0.9, search: Number.NaN, certify: 0.1 }), /add up to at most 1/);
});

test('flips and shifts move pixels and fill with black', () => {
  const shape = { channels: 2, height: 3, width: 4 };
  const original = Float32Array.from({ length: 24 }, (_, at) => at + 1);
  const seen = new Set<string>();
  for (let draw = 0; draw < 200; draw++) {
    const pixels = original.slice();
    augment(pixels, shape, { flip: true, shift: 1 }, [-1, -2], randomFor(draw));
    seen.add(pixels.join());
    for (const channel of [0, 1]) {
      const plane = pixels.subarray(channel * 12, channel * 12 + 12);
      const inside = plane.filter((value) => value > 0);
      assert.ok(inside.length >= 6 && new Set(inside).size === inside.length);
      assert.ok(inside.every((value) => value > channel * 12 && value <= channel * 12 + 12));
      assert.ok(plane.every((value) => value > 0 || value === -1 - channel));
    }
    const again = original.slice();
    augment(again, shape, { flip: true, shift: 1 }, [-1, -2], randomFor(draw));
    assert.deepEqual(again, pixels);
  }
  assert.equal(seen.size, 2 * 3 * 3);
  const mirrored = Float32Array.from([4, 3, 2, 1, 8, 7, 6, 5, 12, 11, 10, 9]);
  assert.ok(seen.has([...mirrored, ...mirrored.map((value) => value + 12)].join()));
});

test('a distortion keeps the middle and about the ink, differs by draw, and of amount 0 is none', () => {
  const image = new Uint8Array(28 * 28);
  for (let row = 8; row < 20; row++) image.fill(200, row * 28 + 8, row * 28 + 20);
  const ink = (values: Uint8Array) => values.reduce((sum, value) => sum + value, 0);
  assert.equal(distort(image, 28, 0, randomFor(1)), image);
  const drawn = new Set<string>();
  for (let draw = 0; draw < 50; draw++) {
    const turned = distort(image, 28, 1, randomFor(draw));
    drawn.add(turned.join());
    assert.equal(turned[14 * 28 + 14], 200);
    const ratio = ink(turned) / ink(image);
    // Areas scale by up to 1 / 0.85² and down to 1 / 1.15².
    assert.ok(ratio > 0.7 && ratio < 1.45, `${ratio}`);
  }
  assert.equal(drawn.size, 50);
});
