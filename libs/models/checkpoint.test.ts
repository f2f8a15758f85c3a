import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { HeartwoodError } from '../errors/error.js';
import { asFloat32, checkFinite, openCheckpoint } from './checkpoint.js';
import { toBfloat16, toFloat16 } from './float16.js';
import { readTensor, writeSafetensors, type TensorToWrite } from './safetensors.js';

let folder = '';
before(() => void (folder = mkdtempSync(join(tmpdir(), 'heartwood-checkpoint-'))));
after(() => rmSync(folder, { recursive: true, force: true }));

const rejects = (promise: Promise<unknown>, pattern: RegExp, code = 'INVALID_ARGUMENT') =>
  assert.rejects(promise, (error: unknown) => {
    assert.ok(error instanceof HeartwoodError, String(error));
    assert.match(error.message, pattern);
    assert.equal(error.code, code);
    assert.ok(!error.message.includes('\n'));
    return true;
  });

const vit = { model_type: 'vit', architectures: ['ViTForImageClassification'], image_size: 32, id2label: { 1: 'dog', 0: 'cat' } };
const weight = (values: number[], name = 'w'): TensorToWrite => ({
  name,
  type: 'float32',
  shape: [values.length],
  bytes: new Uint8Array(Float32Array.from(values).buffer),
});

/** A checkpoint folder with these JSON files and, unless told otherwise, one tensor. */
async function checkpoint(files: Record<string, unknown>, tensors: TensorToWrite[] | undefined = [weight([1, 2])]) {
  const directory = mkdtempSync(join(folder, 'case-'));
  for (const [name, content] of Object.entries(files)) {
    writeFileSync(join(directory, name), typeof content === 'string' ? content : JSON.stringify(content));
  }
  if (tensors.length > 0) await writeSafetensors(join(directory, 'model.safetensors'), tensors);
  return directory;
}

describe('openCheckpoint', () => {
  it('reads config, labels in order, preprocessing and tensors, and a digest of their content', async () => {
    const directory = await checkpoint({ 'config.json': vit });
    const opened = await openCheckpoint(directory);
    assert.equal(opened.architecture, 'ViTForImageClassification');
    assert.deepEqual(opened.labels, ['cat', 'dog']);
    assert.deepEqual(opened.preprocessing.size, { height: 32, width: 32 });
    assert.deepEqual(await readTensor(opened.tensors.get('w')!), Float32Array.of(1, 2));
    const twin = await openCheckpoint(await checkpoint({ 'config.json': vit }));
    assert.equal(twin.digest, opened.digest);
    const other = await openCheckpoint(await checkpoint({ 'config.json': vit }, [weight([1, 3])]));
    assert.notEqual(other.digest, opened.digest);
  });

  it('reads shards by their index', async () => {
    const directory = await checkpoint(
      { 'config.json': vit, 'model.safetensors.index.json': { weight_map: { a: 'one.safetensors', b: 'two.safetensors' } } },
      [],
    );
    await writeSafetensors(join(directory, 'one.safetensors'), [weight([1], 'a')]);
    await rejects(openCheckpoint(directory), /index\.json: shard two\.safetensors is missing/);
    await writeSafetensors(join(directory, 'two.safetensors'), [weight([2], 'c')]);
    await rejects(openCheckpoint(directory), /tensor b is not in its shard two\.safetensors/);
    await writeSafetensors(join(directory, 'two.safetensors'), [weight([2], 'b')]);
    const { tensors } = await openCheckpoint(directory);
    assert.deepEqual(await readTensor(tensors.get('b')!), Float32Array.of(2));
  });

  it('does not follow an index out of the folder', async () => {
    const outside = await checkpoint({ 'config.json': vit });
    for (const shard of [`../${outside.split('/').at(-1)}/model.safetensors`, join(outside, 'model.safetensors'), '..', 'x.bin']) {
      const directory = await checkpoint({ 'config.json': vit, 'model.safetensors.index.json': { weight_map: { w: shard } } }, []);
      await rejects(openCheckpoint(directory), /tensor w: shard .*, expected the name of a \.safetensors file in the same folder/);
    }
  });

  it('says in one line what is missing or wrong', async () => {
    await rejects(openCheckpoint(join(folder, 'absent')), /absent: no such folder/, 'NOT_FOUND');
    await rejects(openCheckpoint(await checkpoint({})), /config\.json: missing/, 'NOT_FOUND');
    await rejects(openCheckpoint(await checkpoint({ 'config.json': '{"model_type": ' })), /config\.json: not JSON/);
    await rejects(openCheckpoint(await checkpoint({ 'config.json': [] })), /config\.json: the whole/);
    await rejects(openCheckpoint(await checkpoint({ 'config.json': {} })), /config\.json: model_type: expected a string/);
    await rejects(openCheckpoint(await checkpoint({ 'config.json': { ...vit, image_size: -1 } })), /config\.json: image_size/);
    await rejects(openCheckpoint(await checkpoint({ 'config.json': { ...vit, num_channels: 4 } })), /num_channels: expected 3 or 1/);
    const gap = { ...vit, id2label: { 0: 'cat', 2: 'dog' } };
    await rejects(openCheckpoint(await checkpoint({ 'config.json': gap })), /id2label has no entry "1"/);
    const pickled = await checkpoint({ 'config.json': vit, 'pytorch_model.bin': 'x' }, []);
    await rejects(openCheckpoint(pickled), /neither model\.safetensors nor .*pytorch_model\.bin is not read/, 'NOT_FOUND');
    const foreign = await checkpoint({ 'config.json': vit, 'model.safetensors': 'version https://git-lfs.github.com/spec/v1' }, []);
    await rejects(openCheckpoint(foreign), /model\.safetensors: not a safetensors file/);
    const processor = await checkpoint({ 'config.json': vit, 'preprocessor_config.json': { size: 224 } });
    await rejects(openCheckpoint(processor), /preprocessor_config\.json: images come out as 224×224, expected .* 32×32/);
  });

  it('counts unnamed labels by the classifier', async () => {
    const rows: TensorToWrite = { name: 'classifier.weight', type: 'float32', shape: [3, 1], bytes: new Uint8Array(12) };
    const { labels } = await openCheckpoint(await checkpoint({ 'config.json': { ...vit, id2label: undefined } }, [rows]));
    assert.deepEqual(labels, ['LABEL_0', 'LABEL_1', 'LABEL_2']);
  });
});

describe('weights', () => {
  it('in half precision are written anew as float32, once; the others stay where they are', async () => {
    const values = [0.5, -3, 2 ** -24];
    const bytes = (convert: (value: number) => number) => new Uint8Array(Uint16Array.from(values, convert).buffer);
    const directory = await checkpoint({ 'config.json': vit }, [
      weight([7]),
      { name: 'half', type: 'float16', shape: [3], bytes: bytes(toFloat16) },
      { name: 'brain', type: 'bfloat16', shape: [3], bytes: bytes(toBfloat16) },
    ]);
    const work = join(folder, 'work');
    mkdirSync(work);
    const opened = await openCheckpoint(directory);
    const widened = await asFloat32(opened, work);
    assert.deepEqual(widened.tensors.get('w'), opened.tensors.get('w'));
    for (const name of ['half', 'brain']) {
      assert.equal(widened.tensors.get(name)?.type, 'float32');
      assert.deepEqual(await readTensor(widened.tensors.get(name)!), Float32Array.from(values));
    }
    const { file } = widened.tensors.get('half')!;
    const written = readFileSync(file);
    rmSync(join(directory, 'model.safetensors'));
    assert.deepEqual(await asFloat32(opened, work), widened, 'found again, without the original');
    assert.deepEqual(readFileSync(file), written);
    const single = await openCheckpoint(await checkpoint({ 'config.json': vit }));
    assert.equal(await asFloat32(single, work), single);
  });

  it('that are not finite are named', async () => {
    await checkFinite(await openCheckpoint(await checkpoint({ 'config.json': vit })));
    for (const bad of [NaN, Infinity, -Infinity]) {
      const opened = await openCheckpoint(await checkpoint({ 'config.json': vit }, [weight([1]), weight([0, bad], 'v')]));
      await rejects(checkFinite(opened), /model\.safetensors: tensor v holds -?(NaN|Infinity) at element 1/);
    }
  });
});

describe('checkpoints of transformers', () => {
  const shared = fileURLToPath(new URL('../../../../shared', import.meta.url));
  const skip = existsSync(shared) ? false : 'no ../shared with golden checkpoints';

  it('open', { skip }, async () => {
    const golden = await openCheckpoint(join(shared, 'golden/deit-distilled'));
    assert.equal(golden.architecture, 'DeiTForImageClassificationWithTeacher');
    assert.deepEqual(golden.tensors.get('deit.embeddings.distillation_token')?.shape, [1, 1, 32]);
    assert.equal(golden.labels.length, 5);
    await checkFinite(golden);
    const trained = await openCheckpoint(join(shared, 'models/vit-cifar10'));
    assert.deepEqual(trained.preprocessing, {
      size: { height: 32, width: 32 },
      resample: 'bilinear',
      resize: true,
      rescale: 0.00392156862745098,
      mean: [0.5, 0.5, 0.5],
      std: [0.5, 0.5, 0.5],
      channels: 3,
    });
    assert.equal(trained.labels[9], 'truck');
  });
});
