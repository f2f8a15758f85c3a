import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { openRepository } from './repository.js';

const root = mkdtempSync(join(tmpdir(), 'heartwood-store-'));
after(() => rmSync(root, { recursive: true, force: true }));
const publisher = fileURLToPath(new URL('./testing/publisher.js', import.meta.url));

function start(directory: string, count: number, tag: string, killAfter = Infinity) {
  const child = spawn(process.execPath, [publisher, directory, 'vit', String(count), tag], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let lines = '';
  child.stdout.on('data', (chunk: Buffer) => {
    lines += chunk.toString();
    if (lines.split('\n').length > killAfter) child.kill('SIGKILL');
  });
  return new Promise<number[]>((resolve) => {
    child.on('close', () => resolve(lines.split('\n').filter(Boolean).map(Number)));
  });
}

test('two processes that publish at once get distinct versions without gaps, each whole', async () => {
  const directory = join(root, 'two');
  const [left, right] = await Promise.all([start(directory, 8, 'left'), start(directory, 8, 'right')]);
  assert.equal(left.length + right.length, 16);
  const repository = await openRepository(directory);
  const all = await repository.listVersions('vit');
  assert.deepEqual(
    all,
    Array.from({ length: 16 }, (_, index) => index + 1),
  );
  assert.deepEqual(
    [...left, ...right].sort((a, b) => a - b),
    all,
  );
  for (const version of all) {
    const manifest = await repository.verify('vit', version);
    const [tag, index] = readFileSync(join(repository.versionDirectory('vit', version), 'model.onnx'), 'utf8').split(
      ' ',
    );
    assert.equal(manifest.publication, `${tag}-${index}`);
    assert.equal(manifest.version, version);
  }
});

test('a publisher killed at any moment leaves only whole versions, and the next one cleans up after it', async () => {
  const directory = join(root, 'killed');
  // Killed after the k-th version was announced, that is, somewhere inside the making of the next one.
  for (const killAfter of [1, 2, 4]) await start(directory, 1000, `killed-${killAfter}`, killAfter);
  const repository = await openRepository(directory);
  const { models, problems } = await repository.snapshot();
  assert.deepEqual(problems, []);
  assert.ok(models.get('vit')!.versions.length >= 7);
  for (const version of await repository.listVersions('vit')) await repository.verify('vit', version);
  await start(directory, 1, 'last');
  const hidden = readdirSync(join(directory, 'vit')).filter((name) => name.startsWith('.staging'));
  assert.deepEqual(hidden, []);
});

test('a publisher killed before anything comes to its place leaves no version that config.pbtxt does not tell of', async () => {
  const preload = new URL('./testing/kill-before.js', import.meta.url).href;
  let killed = 0;
  for (let step = 0, alive = false; !alive; step++) {
    const directory = join(root, `step-${step}`);
    const { signal, status } = spawnSync(
      process.execPath,
      ['--import', preload, publisher, directory, 'vit', '2', 'tag'],
      {
        env: { ...process.env, KILL_BEFORE: String(step) },
      },
    );
    alive = status === 0;
    if (alive) break;
    assert.equal(signal, 'SIGKILL');
    killed++;
    const repository = await openRepository(directory, { create: true });
    const versions = await repository.listVersions('vit').catch(() => []);
    const config = join(directory, 'vit', 'config.pbtxt');
    if (versions.length > 0) assert.match(readFileSync(config, 'utf8'), /name: "pixel_values"/, `step ${step}`);
    if (versions.length > 1) assert.match(readFileSync(config, 'utf8'), /name: "budget"/, `step ${step}`);
    for (const version of versions) await repository.verify('vit', version);
    rmSync(directory, { recursive: true });
  }
  // Two versions, each with a manifest, a configuration and a folder.
  assert.equal(killed, 6);
});
