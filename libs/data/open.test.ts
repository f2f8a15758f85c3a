import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import sharp from 'sharp';
import { writeSafetensors } from '../models/safetensors.js';
import type { ImagePreprocessing } from '../models/preprocessing.js';
import { openDataset } from './open.js';

const root = await mkdtemp(join(tmpdir(), 'heartwood-data-'));
after(() => rm(root, { recursive: true, force: true }));

/** Takes pixels as they are. */
const plain = (side: number, channels: 1 | 3): ImagePreprocessing => ({
  size: { height: side, width: side },
  resample: 'bilinear',
  resize: true,
  rescale: 0,
  mean: new Array<number>(channels).fill(0),
  std: new Array<number>(channels).fill(1),
  channels,
});

function refused(promise: Promise<unknown>, code: string, message: RegExp): Promise<void> {
  return assert.rejects(promise, (error: Error & { code?: string }) => {
    assert.equal(error.code, code, error.message);
    assert.match(error.message, message);
    assert.doesNotMatch(error.message, /\n/);
    return true;
  });
}

async function folder(name: string, files: Readonly<Record<string, Uint8Array | string>>): Promise<string> {
  const path = join(root, name);
  await mkdir(path, { recursive: true });
  for (const [file, content] of Object.entries(files)) {
    await mkdir(join(path, file, '..'), { recursive: true });
    await writeFile(join(path, file), content);
  }
  return path;
}

const solid = (red: number, format: 'png' | 'jpeg' | 'webp') =>
  sharp({ create: { width: 4, height: 4, channels: 3, background: { r: red, g: 0, b: 0 } } })
    .toFormat(format, format === 'webp' ? { lossless: true } : {})
    .toBuffer();

function idx(dims: readonly number[], values: readonly number[], magic = 0x0800 | dims.length): Buffer {
  const header = Buffer.alloc(4 + 4 * dims.length);
  header.writeUInt32BE(magic, 0);
  dims.forEach((dim, axis) => header.writeUInt32BE(dim, 4 + 4 * axis));
  return Buffer.concat([header, Buffer.from(values)]);
}

test('a folder of classes: jpg, png and webp, sorted, labels by the alphabet', async () => {
  const path = await folder('classes', {
    'b/2.png': await solid(20, 'png'),
    'b/1.webp': await solid(10, 'webp'),
    'a/x.JPG': await solid(200, 'jpeg'),
    'a/notes.txt': 'not an image',
  });
  const dataset = await openDataset(path, plain(4, 3));
  assert.deepEqual([dataset.size, dataset.classes, dataset.labelled], [3, ['a', 'b'], true]);
  const samples = await Promise.all([0, 1, 2].map((index) => dataset.read(index)));
  assert.deepEqual(
    samples.map(({ name, label }) => [name, label]),
    [
      ['a/x.JPG', 0],
      ['b/1.webp', 1],
      ['b/2.png', 1],
    ],
  );
  assert.deepEqual(
    samples.slice(1).map(({ pixels }) => pixels[0]),
    [10, 20],
  );
  assert.deepEqual(samples[2]?.encoded, await dataset.image(2));
  await refused(dataset.read(3), 'OUT_OF_RANGE', /samples 0 to 2, not 3/);
});

test('labels are in the order of the model where the names agree', async () => {
  const png = await solid(1, 'png');
  const path = await folder('animals', { 'cat/1.png': png, 'sea_lion/1.png': png });
  const labels = async (classes: string[]) => {
    const dataset = await openDataset(path, plain(4, 3), { classes });
    return [(await dataset.read(0)).label, (await dataset.read(1)).label];
  };
  assert.deepEqual(await labels(['Sea Lion, eared seal', 'dog', 'Cat']), [2, 0]);
  assert.deepEqual(await labels(['LABEL_0', 'LABEL_1', 'LABEL_2']), [0, 1]);
  assert.deepEqual(await labels(['x', 'y']), [0, 1]);
  await refused(labels(['cat', 'dog']), 'INVALID_ARGUMENT', /no labels of the model: sea_lion/);
  await refused(labels(['x', 'y', 'z']), 'INVALID_ARGUMENT', /no labels of the model: cat, sea_lion/);
  await refused(labels(['cat']), 'INVALID_ARGUMENT', /2 class folders, the model only 1/);
  // As in ImageNet: a name that two classes have is nobody's, a whole name goes before a synonym.
  assert.deepEqual(await labels(['dog', 'dog', 'cat', 'sea lion']), [2, 3]);
  assert.deepEqual(await labels(['tiger, cat', 'cat', 'sea lion']), [1, 2]);
  const twice = /class folder cat may be any of the labels 0 and 2 of the model/;
  await refused(labels(['cat', 'sea lion', 'Cat']), 'INVALID_ARGUMENT', twice);
  await refused(labels(['tiger, cat', 'sea lion', 'lynx, cat']), 'INVALID_ARGUMENT', twice);
});

test('a flat folder of images has no labels', async () => {
  const dataset = await openDataset(await folder('flat', { 'z.png': await solid(7, 'png') }), plain(4, 3));
  assert.deepEqual([dataset.labelled, (await dataset.read(0)).label], [false, undefined]);
});

test('folders that are empty or ambiguous, and broken images, are named', async () => {
  const png = await solid(1, 'png');
  await refused(
    openDataset(await folder('empty', {}), plain(4, 3)),
    'INVALID_ARGUMENT',
    /empty has no images: expected/,
  );
  const mixed = await folder('mixed', { 'a/1.png': png, '2.png': png });
  await refused(
    openDataset(mixed, plain(4, 3)),
    'INVALID_ARGUMENT',
    /in class folders \(a\) and beside them \(2\.png\)/,
  );
  const broken = await openDataset(await folder('broken', { 'a/bad.png': png.subarray(0, 40) }), plain(4, 3));
  await refused(broken.read(0), 'INVALID_ARGUMENT', /a\/bad\.png is not an image/);
  await refused(openDataset(join(root, 'nowhere'), plain(4, 3)), 'NOT_FOUND', /nowhere/);
  await refused(
    openDataset('demo:letters', plain(4, 3)),
    'NOT_FOUND',
    /demo:letters.*expected demo:digits or demo:brown/,
  );
  const text = join(await folder('texts', { 'a.txt': 'text' }), 'a.txt');
  await refused(openDataset(text, plain(4, 3)), 'INVALID_ARGUMENT', /a\.txt is no dataset: expected/);
});

test('the digest of a folder follows names, labels and sizes of files', async () => {
  const [one, two] = [await solid(1, 'png'), await solid(1, 'jpeg')];
  const digests = [];
  for (const [name, files] of Object.entries({
    d1: { 'a/1.png': one },
    d2: { 'a/1.png': one },
    d3: { 'a/1.png': two },
  })) {
    digests.push((await openDataset(await folder(name, files), plain(4, 3))).digest);
  }
  assert.equal(digests[0], digests[1]);
  assert.notEqual(digests[0], digests[2]);
});

test('an IDX pair, plain and gzipped, by file and by folder and split', async () => {
  const images = idx([2, 1, 2], [5, 6, 7, 8]);
  const path = await folder('idx', {
    'train-images-idx3-ubyte': images,
    'train-labels-idx1-ubyte': idx([2], [3, 9]),
    't10k-images-idx3-ubyte.gz': gzipSync(idx([1, 1, 2], [50, 60])),
    't10k-labels-idx1-ubyte.gz': gzipSync(idx([1], [4])),
  });
  const row: ImagePreprocessing = { ...plain(2, 1), size: { height: 1, width: 2 } };
  const training = await openDataset(path, row);
  assert.deepEqual(await training.read(1), {
    pixels: Float32Array.of(7, 8),
    label: 9,
    name: 'train-images-idx3-ubyte#1',
  });
  const byFile = await openDataset(join(path, 'train-images-idx3-ubyte'), row);
  assert.equal(byFile.digest, training.digest);
  for (const held of [await openDataset(`${path}/test`, row), await openDataset(path, row, { split: 'test' })]) {
    assert.deepEqual([(await held.read(0)).label, [...(await held.read(0)).pixels]], [4, [50, 60]]);
  }
  const decoded = await sharp(await training.image(0))
    .toColourspace('b-w')
    .raw()
    .toBuffer();
  assert.deepEqual([...decoded], [5, 6]);
});

test('IDX files that are wrong say how', async () => {
  const name = 'images-idx3-ubyte';
  const open = async (files: Record<string, Uint8Array>, at: string) =>
    openDataset(await folder(at, files), plain(2, 1));
  await refused(
    open({ [name]: idx([1, 1, 2], [1, 2], 0x0d03) }, 'idx1'),
    'INVALID_ARGUMENT',
    /magic number 0x00000d03, expected 0x00000803/,
  );
  await refused(open({ [name]: idx([2, 1, 2], [1, 2]) }, 'idx2'), 'INVALID_ARGUMENT', /has 18 bytes, expected 20/);
  await refused(open({ [name]: Buffer.alloc(3) }, 'idx3'), 'INVALID_ARGUMENT', /too short/);
  await refused(open({ [`${name}.gz`]: Buffer.from('not gzip') }, 'idx4'), 'INVALID_ARGUMENT', /not a whole gzip file/);
  const wrongCount = { [name]: idx([1, 1, 2], [1, 2]), 'labels-idx1-ubyte': idx([2], [0, 1]) };
  await refused(open(wrongCount, 'idx5'), 'INVALID_ARGUMENT', /has 2 labels, expected 1/);
  const unlabelled = await open({ [name]: idx([1, 1, 2], [1, 2]) }, 'idx6');
  assert.equal(unlabelled.labelled, false);
});

test('CIFAR-10 batches: planes to pixels, order over files, names of the classes', async () => {
  const record = (label: number, red: number, blue: number) => {
    const bytes = Buffer.alloc(3073);
    bytes[0] = label;
    bytes.fill(red, 1, 1025);
    bytes.fill(blue, 2049);
    return bytes;
  };
  const path = await folder('cifar', {
    'data_batch_1.bin': Buffer.concat([record(3, 10, 20), record(9, 11, 21)]),
    'data_batch_2.bin': record(1, 12, 22),
    'test_batch.bin': record(0, 13, 23),
    'batches.meta.txt': 'airplane\nautomobile\n\n',
  });
  const training = await openDataset(path, plain(32, 3));
  assert.deepEqual([training.size, training.classes], [3, ['airplane', 'automobile']]);
  const { pixels, label } = await training.read(2);
  assert.deepEqual([label, pixels[0], pixels[1024], pixels[3071]], [1, 12, 0, 22]);
  const held = await openDataset(`${path}/test`, plain(32, 3));
  assert.deepEqual([held.size, (await held.read(0)).label], [1, 0]);
  const cut = await folder('cifar-cut', { 'data_batch_1.bin': Buffer.alloc(3000) });
  await refused(
    openDataset(cut, plain(32, 3)),
    'INVALID_ARGUMENT',
    /data_batch_1\.bin has 3000 bytes, expected a multiple of 3073/,
  );
  const strange = await openDataset(
    await folder('cifar-strange', { 'data_batch_1.bin': record(77, 0, 0) }),
    plain(32, 3),
  );
  await refused(strange.read(0), 'INVALID_ARGUMENT', /label 77 in record 0/);
});

test('labels beyond the classes of the model are refused, with file, index and range', async () => {
  const classes = ['a', 'b', 'c'];
  const path = await folder('range', {
    'images-idx3-ubyte': idx([2, 1, 1], [5, 6]),
    'labels-idx1-ubyte': idx([2], [2, 3]),
    'cifar/data_batch_1.bin': Buffer.alloc(3073, 7),
  });
  const range = /sample (1|0) is (3|7), expected 0 to 2, the model's classes/;
  const images = join(path, 'images-idx3-ubyte');
  await refused(openDataset(images, plain(1, 1), { classes }), 'INVALID_ARGUMENT', range);
  await refused(openDataset(images, plain(1, 1), { classes }), 'INVALID_ARGUMENT', /labels-idx1-ubyte: /);
  assert.equal((await openDataset(images, plain(1, 1), { classes: [...classes, 'd'] })).size, 2);
  const cifar = await openDataset(join(path, 'cifar'), plain(32, 3), { classes });
  await refused(cifar.read(0), 'INVALID_ARGUMENT', range);

  const tensors = join(root, 'range.safetensors');
  const bytes = (values: number[]) => new Uint8Array(Float32Array.from(values).buffer);
  const pixels = { name: 'pixel_values', type: 'float32', shape: [2, 1, 1, 1], bytes: bytes([0, 1]) } as const;
  const write = (labels: bigint[]) => {
    const values = new Uint8Array(BigInt64Array.from(labels).buffer);
    return writeSafetensors(tensors, [pixels, { name: 'labels', type: 'int64', shape: [2], bytes: values }]);
  };
  await write([0n, 3n]);
  await refused(
    openDataset(tensors, plain(1, 1), { classes }),
    'INVALID_ARGUMENT',
    /range\.safetensors: .*sample 1 is 3, expected 0 to 2/,
  );
  assert.equal((await openDataset(tensors, plain(1, 1))).size, 2);
  await write([2n ** 32n, 0n]);
  await refused(openDataset(tensors, plain(1, 1), { classes }), 'INVALID_ARGUMENT', /sample 0 is 4294967296/);
  await write([0n, -1n]);
  await refused(openDataset(tensors, plain(1, 1)), 'INVALID_ARGUMENT', /sample 1 is -1, expected a class from 0 up/);
  for (const value of [NaN, Infinity]) {
    await writeSafetensors(tensors, [{ ...pixels, bytes: bytes([0, value]) }]);
    const dataset = await openDataset(tensors, plain(1, 1));
    await dataset.read(0);
    await refused(
      dataset.read(1),
      'INVALID_ARGUMENT',
      new RegExp(`range\\.safetensors: .*sample 1 hold ${value} at element 0`),
    );
  }
});

test('a safetensors file is taken as it is', async () => {
  const floats = (values: number[]) => new Uint8Array(Float32Array.from(values).buffer);
  const path = join(root, 'tensors.safetensors');
  const pixels = { name: 'pixel_values', type: 'float32', shape: [2, 1, 1, 1], bytes: floats([0.25, -7]) } as const;
  const labels = {
    name: 'labels',
    type: 'int64',
    shape: [2],
    bytes: new Uint8Array(BigInt64Array.of(5n, 6n).buffer),
  } as const;
  await writeSafetensors(path, [pixels, labels]);
  const dataset = await openDataset(path, { ...plain(1, 1), rescale: 99 });
  assert.deepEqual(await dataset.read(1), { pixels: Float32Array.of(-7), label: 6, name: 'tensors.safetensors#1' });
  assert.equal(await dataset.image(1), undefined);
  await refused(
    openDataset(path, plain(2, 1)),
    'INVALID_ARGUMENT',
    /pixel_values is \[2, 1, 1, 1\], expected \[N, 1, 2, 2\]/,
  );
  await writeSafetensors(path, [pixels, { ...labels, shape: [1], bytes: labels.bytes.subarray(8) }]);
  await refused(openDataset(path, plain(1, 1)), 'INVALID_ARGUMENT', /labels is \[1\], expected \[2\]/);
  await writeSafetensors(path, [{ ...pixels, name: 'input_ids' }]);
  await refused(openDataset(path, plain(1, 1)), 'INVALID_ARGUMENT', /input_ids/);
  await writeFile(path, 'nonsense, but long enough');
  await refused(openDataset(path, plain(1, 1)), 'INVALID_ARGUMENT', /tensors\.safetensors/);
});
