import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { HeartwoodError } from '../errors/error.js';
import { writeFailure } from '../errors/write-failure.js';
import { writeDurably } from './durable.js';
import { lockFolder } from './folder-lock.js';
import { FileCheckpoints } from './jobs/checkpoints.js';
import { Jobs } from './jobs/jobs.js';
import { openRepository, type Repository } from './repository.js';
import { fillWith, sampleDraft } from './testing/versions.js';

let root: string;
let repository: Repository;
beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), 'heartwood-store-'));
  repository = await openRepository(join(root, 'models'), { create: true });
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const coded = (code: string, text: RegExp) => (error: unknown) =>
  error instanceof HeartwoodError && error.code === code && text.test(error.message);

test('a published version is listed, read, verified and described to Triton', async () => {
  const first = await repository.publish('vit', fillWith());
  const second = await repository.publish(
    'vit',
    fillWith({
      parent: 1,
      budget: { default: 0.05, ceiling: 1 },
      tokens: { total: 5, special: 1, stages: [1] },
      flops: { dense: 10, mean: 5, segments: [0, 1].map((constant) => ({ constant, linear: 1, quadratic: 0 })) },
    }),
  );
  assert.deepEqual([first.version, second.version], [1, 2]);
  assert.deepEqual(await repository.listModels(), ['vit']);
  assert.deepEqual(await repository.listVersions('vit'), [1, 2]);
  assert.deepEqual(await repository.verify('vit', 2), second.manifest);
  assert.deepEqual(Object.keys(first.manifest.files), ['model.data', 'model.onnx']);
  const config = readFileSync(join(repository.directory, 'vit/config.pbtxt'), 'utf8');
  assert.match(config, /version_policy \{ all \{ \} \}/);
  assert.match(config, /platform: "onnxruntime_onnx"/);
  assert.match(config, /input \{ name: "pixel_values" data_type: TYPE_FP32 dims: \[ -1, 3, 8, 8 \] \}/);
  assert.match(config, /input \{ name: "budget" .* optional: true \}/);
  assert.match(config, /output \{ name: "tokens_kept" data_type: TYPE_INT32/);
});

test('the number of version 1 is given again to its own checkpoint alone', async () => {
  const [own, other] = ['a', 'b'].map((digit) => ({ checkpointDigest: digit.repeat(64) }));
  const refused = () =>
    assert.rejects(
      repository.publish('first', fillWith(other), { version: 1 }),
      coded(
        'FAILED_PRECONDITION',
        /version 1 of first: was removed, and its number is not given to another checkpoint/,
      ),
    );
  await repository.publish('first', fillWith(own), { version: 1 });
  await repository.publish('first', fillWith({ ...own, parent: 1 }));
  await repository.remove('first', 1, { force: true });
  await refused();
  assert.equal((await repository.publish('first', fillWith(own), { version: 1 })).version, 1);
  // Also when nothing of the model is left.
  await repository.remove('first', 2);
  await repository.remove('first', 1);
  await refused();
  assert.equal((await repository.publish('first', fillWith(own), { version: 1 })).version, 1);
  assert.equal((await repository.publish('first', fillWith(own))).version, 3);
  // A folder that was deleted by hand is known by those that were made of it.
  await repository.publish('first', fillWith({ ...own, parent: 1 }));
  rmSync(join(repository.directory, 'first', '1'), { recursive: true });
  await refused();
  for (const version of [3, 4]) await repository.remove('first', version, { force: true });
  rmSync(join(repository.directory, '.first.next-version'));
});

test('a full disk and a folder that is read-only are told apart, by name', async () => {
  const system = (code: string) =>
    Object.assign(new Error(`${code}: said by the system, write`), { code, syscall: 'write' });
  const failing = (error: Error) => repository.publish('vit', () => Promise.reject(error));
  const place = join(repository.directory, 'vit');
  await assert.rejects(failing(system('ENOSPC')), (error: Error) => {
    assert.ok(coded('RESOURCE_EXHAUSTED', /vit: cannot be written: ENOSPC/)(error), error.message);
    return error.message.startsWith(place);
  });
  const wrapped = new HeartwoodError('INVALID_ARGUMENT', 'model.onnx: cannot be written', { cause: system('EDQUOT') });
  await assert.rejects(failing(wrapped), coded('RESOURCE_EXHAUSTED', /^model\.onnx: cannot be written$/));
  await assert.rejects(failing(system('EIO')), /^Error: EIO/, 'what is not of the disk stays as it was');

  assert.ok(coded('UNAVAILABLE', /^models: cannot be written: EIO/)(writeFailure('models', system('EIO'))));
  assert.ok(coded('INVALID_ARGUMENT', /^models: cannot be written: EROFS/)(writeFailure('models', system('EROFS'))));
  // A file stands where a folder would have to be made.
  const file = join(repository.directory, 'taken');
  writeFileSync(file, '');
  await assert.rejects(
    repository.publish('taken', fillWith()),
    coded('INVALID_ARGUMENT', /taken: cannot be written: E/),
  );
  const unmade = coded('INVALID_ARGUMENT', /taken(\/x)?: cannot be written: E/);
  await assert.rejects(openRepository(join(file, 'x'), { create: true }), unmade);
  // Root may write anywhere.
  if (process.getuid?.() !== 0) {
    const closed = join(root, 'closed');
    mkdirSync(closed, { mode: 0o500 });
    const refused = coded('INVALID_ARGUMENT', /^repository .*closed: cannot be written: EACCES/);
    await assert.rejects(openRepository(closed, { create: true }), refused);
  }
  await assert.rejects(Jobs.open({ directory: join(file, 'x') }), unmade);
  await assert.rejects(lockFolder(file), unmade);
  await assert.rejects(
    writeDurably(join(file, 'x.json'), '{}'),
    coded('INVALID_ARGUMENT', /taken\/x\.json: cannot be written: E/),
  );
  const checkpoints = new FileCheckpoints(file);
  await assert.rejects(
    checkpoints.write('job', 'score', 1),
    coded('INVALID_ARGUMENT', /score\.checkpoint: cannot be written: E/),
  );
});

test('what cannot be published leaves nothing behind', async () => {
  await assert.rejects(
    repository.publish('vit', async (directory) => {
      writeFileSync(join(directory, 'model.onnx'), 'half');
      throw new Error('disk on fire');
    }),
    /disk on fire/,
  );
  await assert.rejects(
    repository.publish('vit', async () => sampleDraft()),
    coded('INVALID_ARGUMENT', /model\.onnx/),
  );
  await assert.rejects(
    repository.publish('vit', fillWith({ architecture: '' })),
    coded('INVALID_ARGUMENT', /architecture/),
  );
  const aborted = new AbortController();
  const filling = repository.publish(
    'vit',
    async (directory) => {
      aborted.abort();
      return fillWith()(directory);
    },
    { signal: aborted.signal },
  );
  await assert.rejects(filling, { name: 'AbortError' });
  assert.deepEqual(readdirSync(join(repository.directory, 'vit')), []);
  await assert.rejects(repository.publish('../vit', fillWith()), coded('INVALID_ARGUMENT', /name/));
  assert.deepEqual(readdirSync(root), ['models']);
});

test('a fixed number is published once, a publication id once', async () => {
  await repository.publish('vit', fillWith(), { version: 1 });
  await assert.rejects(
    repository.publish('vit', fillWith(), { version: 1 }),
    coded('ALREADY_EXISTS', /version 1 of vit/),
  );
  const job = await repository.publish('vit', fillWith({ publication: 'job-7', parent: 1 }));
  const again = await repository.publish('vit', fillWith({ publication: 'job-7', parent: 1 }));
  assert.deepEqual(again, job);
  assert.deepEqual(await repository.listVersions('vit'), [1, 2]);
  assert.equal((await repository.findPublication('vit', 'job-7'))?.version, 2);
  assert.equal(await repository.findPublication('vit', 'job-8'), undefined);
});

test('verify names the file that changed, vanished or was added', async () => {
  const { directory } = await repository.publish('vit', fillWith());
  writeFileSync(join(directory, 'model.data'), 'Weights');
  await assert.rejects(repository.verify('vit', 1), coded('FAILED_PRECONDITION', /model\.data: expected SHA-256/));
  rmSync(join(directory, 'model.data'));
  await assert.rejects(repository.verify('vit', 1), coded('FAILED_PRECONDITION', /model\.data: ENOENT/));
  writeFileSync(join(directory, 'model.data'), 'weights');
  await repository.verify('vit', 1);
  writeFileSync(join(directory, 'other.bin'), '');
  await assert.rejects(repository.verify('vit', 1), coded('FAILED_PRECONDITION', /other\.bin: not listed/));
});

test('promote pins the default, unpin and remove give it back to the newest', async () => {
  for (let version = 1; version <= 3; version++) await repository.publish('vit', fillWith());
  const defaults = async () => (await repository.snapshot()).models.get('vit')?.default;
  assert.equal(await defaults(), 3);
  await repository.promote('vit', 2);
  assert.equal(await defaults(), 2);
  await repository.publish('vit', fillWith());
  assert.equal(await defaults(), 2);
  assert.equal((await repository.resolve('vit')).version, 2);
  await assert.rejects(repository.promote('vit', 9), coded('NOT_FOUND', /version 9 of vit/));
  await assert.rejects(repository.remove('vit', 2), coded('FAILED_PRECONDITION', /pinned/));
  await repository.unpin('vit');
  assert.equal(await defaults(), 4);
  await repository.promote('vit', 2);
  await repository.remove('vit', 2, { force: true });
  assert.equal(await defaults(), 4);
  assert.equal((await repository.resolve('vit')).version, 4);
});

test('remove refuses a parent, never gives a number twice, and the last version takes the model along', async () => {
  await repository.publish('vit', fillWith());
  await repository.publish('vit', fillWith({ parent: 1 }));
  await assert.rejects(repository.remove('vit', 1), coded('FAILED_PRECONDITION', /version 2 was made from it/));
  await repository.remove('vit', 2);
  assert.equal((await repository.publish('vit', fillWith({ parent: 1 }))).version, 3);
  await repository.remove('vit', 1, { force: true });
  assert.deepEqual(await repository.listVersions('vit'), [3]);
  await assert.rejects(repository.remove('vit', 1), coded('NOT_FOUND', /version 1 of vit/));
  await repository.remove('vit', 3);
  assert.deepEqual(readdirSync(repository.directory), ['.vit.next-version']);
  await assert.rejects(repository.listVersions('vit'), coded('NOT_FOUND', /model vit/));
  assert.equal((await repository.publish('vit', fillWith())).version, 4);
});

test('a version whose config.pbtxt cannot be written is not published', async () => {
  mkdirSync(join(repository.directory, 'vit/config.pbtxt'), { recursive: true });
  await assert.rejects(
    repository.publish('vit', fillWith()),
    coded('INVALID_ARGUMENT', /config\.pbtxt: cannot be written/),
  );
  assert.deepEqual(readdirSync(join(repository.directory, 'vit')), ['config.pbtxt']);
  rmSync(join(repository.directory, 'vit/config.pbtxt'), { recursive: true });
  assert.equal((await repository.publish('vit', fillWith())).version, 1);
});

test('a snapshot is steady, changes its key with every change, and reports what it cannot read', async () => {
  await repository.publish('vit', fillWith());
  const before = await repository.snapshot();
  const same = await repository.snapshot();
  assert.equal(same.key, before.key);
  assert.equal(
    same.models.get('vit')?.versions[0]?.manifest,
    before.models.get('vit')?.versions[0]?.manifest,
    'not parsed again',
  );
  const keys = new Set([before.key]);
  const changed = async (what: string) => {
    const { key } = await repository.snapshot();
    assert.ok(!keys.has(key), what);
    keys.add(key);
  };
  await repository.publish('vit', fillWith());
  await changed('published');
  await repository.promote('vit', 1);
  await changed('promoted');
  mkdirSync(join(repository.directory, 'vit/7'));
  await changed('foreign version');
  mkdirSync(join(repository.directory, 'vit/8'));
  writeFileSync(join(repository.directory, 'vit/8/heartwood.json'), '{"schema":1}');
  mkdirSync(join(repository.directory, '.hidden/1'), { recursive: true });
  mkdirSync(join(repository.directory, 'empty'));
  const { models, problems } = await repository.snapshot();
  assert.deepEqual([...models.keys()], ['vit']);
  assert.deepEqual(
    models.get('vit')?.versions.map((entry) => entry.version),
    [1, 2],
  );
  assert.deepEqual(
    problems.map(({ model, version, error }) => [model, version, error.code]),
    [
      ['vit', 7, 'NOT_FOUND'],
      ['vit', 8, 'INVALID_ARGUMENT'],
    ],
  );
  assert.match(problems[1]!.error.message, /vit\/8\/heartwood\.json: model: /);
});

test('opening to write clears what killed publishers left, but not what a living one is filling', async () => {
  const model = join(repository.directory, 'vit');
  const { hostname } = await import('node:os');
  const host = hostname().replace(/[^A-Za-z0-9_]/g, '_');
  await repository.publish('vit', async (directory) => {
    const dead = join(model, `.staging-${host}-4194999-abcdef`);
    const parent = join(model, `.staging-${host}-${process.ppid}-abcdef`);
    const elsewhere = join(model, '.staging-another_host-4194999-abcdef');
    for (const folder of [dead, parent, elsewhere, join(model, '.removed-12')]) mkdirSync(folder);
    await openRepository(repository.directory, { create: true });
    assert.ok(existsSync(directory), 'our own, being filled');
    assert.ok(existsSync(parent), 'of a living process');
    assert.ok(existsSync(elsewhere), 'of another host, fresh');
    assert.ok(!existsSync(dead));
    assert.ok(!existsSync(join(model, '.removed-12')));
    return fillWith()(directory);
  });
});

test('a repository that is missing or no folder is refused by name', async () => {
  await assert.rejects(openRepository(join(root, 'absent')), coded('NOT_FOUND', /absent: expected a folder/));
  writeFileSync(join(root, 'file'), '');
  await assert.rejects(openRepository(join(root, 'file')), coded('NOT_FOUND', /file/));
  await assert.rejects(openRepository(join(root, 'file'), { create: true }), coded('INVALID_ARGUMENT', /file/));
});
