import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import type { ImagePreprocessing } from '../models/preprocessing.js';
import { countPixels } from './image.js';
import { preprocessImage, preprocessPixels } from './preprocess.js';
import { resizeImage } from './resize.js';

interface Fixture {
  readonly cases: readonly {
    readonly name: string;
    readonly encoded: string;
    readonly preprocessing: ImagePreprocessing;
    readonly pixels: string;
  }[];
}

// From the folder of the compiled file, dist/libs/data, to the sources.
const fixture = fileURLToPath(new URL('../../../libs/data/fixtures/preprocessing.json', import.meta.url));
const { cases } = JSON.parse(await readFile(fixture, 'utf8')) as Fixture;

const square: ImagePreprocessing = {
  size: { height: 8, width: 8 },
  resample: 'bilinear',
  resize: true,
  rescale: 1 / 255,
  mean: [0, 0, 0],
  std: [1, 1, 1],
  channels: 3,
};

for (const { name, encoded, preprocessing, pixels } of cases) {
  test(`as Hugging Face's image processor: ${name}`, async () => {
    const bytes = Buffer.from(pixels, 'base64');
    const expected = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
    const actual = await preprocessImage(Buffer.from(encoded, 'base64'), preprocessing);
    assert.equal(actual.length, expected.length);
    const worst = actual.reduce((most, value, at) => Math.max(most, Math.abs(value - (expected[at] as number))), 0);
    assert.ok(worst <= 1e-6, `the largest difference is ${worst}`);
  });
}

test('a constant image stays constant under every filter and size', () => {
  const image = { data: new Uint8Array(7 * 9 * 3).fill(201), height: 7, width: 9, channels: 3 };
  for (const resampling of ['nearest', 'bilinear', 'bicubic', 'lanczos'] as const) {
    for (const [height, width] of [
      [3, 4],
      [20, 31],
      [7, 2],
    ] as const) {
      const { data } = resizeImage(image, height, width, resampling);
      assert.equal(data.length, height * width * 3);
      assert.ok(
        data.every((value) => value === 201),
        `${resampling} ${height}×${width}`,
      );
    }
  }
});

test('a crop larger than the image is filled with black, before normalisation', () => {
  const image = { data: new Uint8Array([255]), height: 1, width: 1, channels: 1 };
  const crop = { height: 3, width: 3 };
  const pixels = preprocessPixels(image, { ...square, resize: false, channels: 1, mean: [0.5], std: [0.5], crop });
  assert.deepEqual([...pixels], [-1, -1, -1, -1, 1, -1, -1, -1, -1]);
});

test('RGB becomes grey as Pillow does it', () => {
  const image = { data: new Uint8Array([200, 10, 90]), height: 1, width: 1, channels: 3 };
  const pixels = preprocessPixels(image, {
    ...square,
    resize: false,
    size: { height: 1, width: 1 },
    channels: 1,
    rescale: 0,
  });
  assert.deepEqual([...pixels], [76]);
});

test('without resizing, an image of another size is refused by name', () => {
  const image = { data: new Uint8Array(12), height: 2, width: 2, channels: 3 };
  assert.throws(
    () => preprocessPixels(image, { ...square, resize: false }, 'cat.png'),
    /cat\.png is 2×2 pixels, expected 8×8/,
  );
});

test('broken and truncated images are refused by name, in one line', async () => {
  const whole = await sharp({
    create: {
      width: 64,
      height: 64,
      channels: 3,
      background: '#c08040',
      noise: { type: 'gaussian', mean: 128, sigma: 40 },
    },
  })
    .jpeg()
    .toBuffer();
  for (const bytes of [
    new Uint8Array(0),
    Buffer.from('this is not an image'),
    whole.subarray(0, whole.length >> 1),
    whole.subarray(0, 100),
  ]) {
    await assert.rejects(preprocessImage(bytes, square, 'dog.jpg'), (error: Error) => {
      assert.equal((error as { code?: string }).code, 'INVALID_ARGUMENT');
      assert.match(error.message, /^dog\.jpg is not an image that can be decoded[^\n]*$/);
      const [, reason = ''] = error.message.split('megapixels): ');
      const parts = reason.split(/(?=VipsJpeg)|; /).map((part) => part.replace(/;?\s*$/, ''));
      assert.deepEqual(parts, [...new Set(parts)], 'says each thing once');
      return true;
    });
  }
});

test('other formats that libvips reads are refused before it sees them', async () => {
  const rendered =
    '<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"><rect width="64" height="64" fill="red"/></svg>';
  const pixels = sharp({ create: { width: 8, height: 8, channels: 3, background: 'red' } });
  const others = [Buffer.from(rendered), await pixels.clone().gif().toBuffer(), await pixels.clone().tiff().toBuffer()];
  for (const bytes of others) {
    await assert.rejects(preprocessImage(bytes, square, 'x'), {
      code: 'INVALID_ARGUMENT',
      message: /^x is not an image.*\(JPEG, PNG or WebP.*none of these formats$/,
    });
  }
  for (const format of ['jpeg', 'png', 'webp'] as const) {
    const bytes = await pixels.clone().toFormat(format).toBuffer();
    assert.equal((await preprocessImage(bytes, square)).length, 3 * 64);
    assert.equal(await countPixels(bytes, 'x'), 64);
  }
});

test('an image of too many pixels is refused before it is decoded', async () => {
  // A PNG header that announces 30,000 × 30,000 pixels; the pixel data is never asked for.
  const bomb = Buffer.from(
    await sharp({ create: { width: 1, height: 1, channels: 3, background: 'red' } })
      .png()
      .toBuffer(),
  );
  bomb.writeUInt32BE(30_000, 16);
  bomb.writeUInt32BE(30_000, 20);
  await assert.rejects(preprocessImage(bomb, square, 'bomb.png'), /bomb\.png.*megapixels/);
  const large = await sharp({ create: { width: 7100, height: 7100, channels: 3, background: 'red' } })
    .png()
    .toBuffer();
  await assert.rejects(preprocessImage(large, square, 'large.png'), /large\.png.*exceeds pixel limit/i);
});
