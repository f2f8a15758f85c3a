import assert from 'node:assert/strict';
import { test } from 'node:test';
import sharp from 'sharp';
import { openDemoDigits } from './demo-digits.js';
import { canvasSide, ClutteredDigits, digitsOf, loadDigits, splits } from './digits.js';

const digits = await loadDigits();
const preprocessing = {
  size: { height: 64, width: 64 },
  resample: 'bilinear',
  resize: true,
  rescale: 1 / 255,
  mean: [0, 0, 0],
  std: [1, 1, 1],
  channels: 3,
} as const;

test('the ten thousand digits of the npm package are there, in grey values', () => {
  assert.equal(digits.labels.length, 10_000);
  assert.equal(digits.pixels.length, 10_000 * 28 * 28);
  assert.equal(Math.max(...digits.labels), 9);
  assert.equal(digits.digest, 'bc6b63550c8a82f6ecccd9458252069fb030ee802997b8242e71d5146b0cbf0e');
});

test('splits are disjoint, cover all digits, and depend on the seed', () => {
  const members = splits.map((split) => [...digitsOf(split, 10_000, 3)]);
  assert.deepEqual(
    members.map(({ length }) => length),
    [8000, 1000, 1000],
  );
  assert.equal(new Set(members.flat()).size, 10_000);
  assert.notDeepEqual(members[2], [...digitsOf('test', 10_000, 4)]);
});

test('a canvas is repeatable by seed, split, index and epoch, in any order', () => {
  const task = new ClutteredDigits(digits, 'train', 5);
  const first = task.draw(17, 2);
  task.draw(3);
  assert.deepEqual(task.draw(17, 2), first);
  for (const other of [
    task.draw(18, 2),
    task.draw(17, 3),
    new ClutteredDigits(digits, 'train', 6).draw(17, 2),
    new ClutteredDigits(digits, 'test', 5).draw(17, 2),
  ]) {
    assert.notDeepEqual(other, first);
  }
});

test('a canvas is the digit, whole and inside its region, and up to six fragments that never darken it', () => {
  const task = new ClutteredDigits(digits, 'validation', 0);
  const region = { top: 16, left: 8, side: 40 };
  for (let index = 0; index < 50; index++) {
    const bare = task.draw(index, 1, { fragments: 0, region });
    const cluttered = task.draw(index, 1, { fragments: 6, region });
    assert.ok(bare.every((value, at) => value <= (cluttered[at] as number)));
    const inside = (at: number) => {
      const [row, column] = [Math.floor(at / canvasSide) - region.top, (at % canvasSide) - region.left];
      return row >= 0 && row < region.side && column >= 0 && column < region.side;
    };
    assert.ok(bare.every((value, at) => value === 0 || inside(at)));
    const member = digitsOf('validation', 10_000, 0)[index] as number;
    const ink = (values: Uint8Array) => values.reduce((total, value) => total + value, 0);
    assert.equal(ink(bare), ink(digits.pixels.subarray(member * 784, member * 784 + 784)));
    const changed = cluttered.filter((value, at) => value !== bare[at]).length;
    assert.ok(changed <= 6 * 64);
  }
});

test('the digit gets everywhere on the canvas', () => {
  const task = new ClutteredDigits(digits, 'train', 0);
  const rows = new Set<number>();
  for (let index = 0; index < 2000; index++) {
    const canvas = task.draw(index, 0, { fragments: 0 });
    rows.add(Math.floor(canvas.findIndex((value) => value > 0) / canvasSide));
  }
  assert.ok(
    Math.min(...rows) <= 3 && Math.max(...rows) >= 38,
    `first rows from ${Math.min(...rows)} to ${Math.max(...rows)}`,
  );
});

test('demo:digits as a dataset: grey in three channels, PNG of the same pixels, its own digest by split', async () => {
  const [validation, held] = await Promise.all([openDemoDigits(preprocessing), openDemoDigits(preprocessing, 'test')]);
  assert.equal(validation.size, 1000);
  assert.notEqual(validation.digest, held.digest);
  const sample = await held.read(41);
  assert.equal(sample.pixels.length, 3 * 64 * 64);
  assert.deepEqual(sample.pixels.subarray(0, 4096), sample.pixels.subarray(8192));
  const decoded = await sharp(await held.image(41))
    .toColourspace('b-w')
    .raw()
    .toBuffer();
  assert.deepEqual(
    [...decoded].map((value) => Math.fround(value / 255)),
    [...sample.pixels.subarray(0, 4096)],
  );
  assert.ok(sample.label !== undefined && sample.label >= 0 && sample.label <= 9);
  await assert.rejects(held.read(1000), /demo:digits\/test has samples 0 to 999, not 1000/);
});

test('distortion changes the digit and keeps it in its place', () => {
  const task = new ClutteredDigits(digits, 'train', 0);
  const region = { top: 0, left: 0, side: 28 };
  const plain = task.draw(5, 1, { fragments: 0, region });
  const turned = task.draw(5, 1, { fragments: 0, region, distortion: 1 });
  assert.notDeepEqual(turned, plain);
  assert.ok(turned.every((value, at) => value === 0 || (at % canvasSide < 28 && at < 28 * canvasSide)));
});
