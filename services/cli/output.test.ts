import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync } from 'node:fs';
import { open, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { checkWritable, writeWhole } from './output.js';

const folder = mkdtempSync(join(tmpdir(), 'heartwood-output-'));
after(() => rmSync(folder, { recursive: true, force: true }));

test('a result goes through a symbolic link, which stays one, whether or not there is a file behind it', async () => {
  mkdirSync(join(folder, 'behind'));
  const link = join(folder, 'link.json');
  symlinkSync(join('behind', 'result.json'), link);
  for (const content of ['first', 'second']) {
    await checkWritable(link);
    await writeWhole(link, content);
    assert.ok(lstatSync(link).isSymbolicLink());
    assert.equal(readFileSync(join(folder, 'behind', 'result.json'), 'utf8'), content);
  }
  assert.deepEqual(readdirSync(join(folder, 'behind')), ['result.json'], 'nothing is left beside it');
});

test('a result goes into a pipe, which is not replaced', async () => {
  const pipe = join(folder, 'pipe');
  execFileSync('mkfifo', [pipe]);
  await checkWritable(pipe);
  const [read] = await Promise.all([readFile(pipe, 'utf8'), writeWhole(pipe, '{"a": 1}\n')]);
  assert.equal(read, '{"a": 1}\n');
  assert.ok(statSync(pipe).isFIFO());
});

test('a device that takes nothing is named, and stays', async (t) => {
  const device = join(folder, 'full');
  // One of our own, the twin of /dev/full.
  if (spawnSync('mknod', [device, 'c', '1', '7']).status !== 0) return t.skip('only root makes devices');
  try {
    await open(device, 'w').then((handle) => handle.close());
  } catch {
    return t.skip('the temporary folder takes no devices');
  }
  await checkWritable(device);
  await assert.rejects(writeWhole(device, 'text'), { code: 'INVALID_ARGUMENT', message: /full: .*ENOSPC/ });
  assert.ok(statSync(device).isCharacterDevice());
});

test('a folder is refused, by name', async () => {
  await assert.rejects(checkWritable(folder), { code: 'INVALID_ARGUMENT', message: /it is a folder/ });
  await assert.rejects(writeWhole(folder, ''), { code: 'INVALID_ARGUMENT', message: /heartwood-output-/ });
});
