import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { openScratch } from './scratch.js';

const root = mkdtempSync(join(tmpdir(), 'heartwood-scratch-'));
after(() => rmSync(root, { recursive: true, force: true }));

test('a scratch folder goes with its process: when it stops, or when the next one starts after a kill', async () => {
  const left = (name: string, holder?: object) => {
    const path = join(root, `heartwood-shards-${name}`);
    mkdirSync(join(path, 'work'), { recursive: true });
    if (holder) writeFileSync(join(path, 'lock.json'), JSON.stringify(holder));
    return path;
  };
  const first = await openScratch(root);
  const killed = left('killed', { host: hostname(), pid: 4194999, started: 'boot/1' });
  const elsewhere = left('elsewhere', { host: 'another', pid: 1, started: 'boot/1' });
  const begun = left('begun');
  const old = left('old');
  utimesSync(old, 0, 0);
  mkdirSync(join(root, 'jobs'));
  const second = await openScratch(root);
  assert.ok(!existsSync(killed), 'its process is gone');
  assert.ok(!existsSync(old), 'nobody ever locked it');
  for (const path of [first.path, elsewhere, begun, join(root, 'jobs')]) assert.ok(existsSync(path), path);
  await Promise.all([first.remove(), second.remove()]);
  assert.deepEqual(readdirSync(root).sort(), ['heartwood-shards-begun', 'heartwood-shards-elsewhere', 'jobs']);
});

test(
  'a data folder that cannot be is refused, by name',
  { skip: existsSync('/proc/self') ? false : 'there is no /proc here' },
  () =>
    assert.rejects(openScratch('/proc/heartwood/data'), {
      code: 'INVALID_ARGUMENT',
      message: /^\/proc\/heartwood\/data: /,
    }),
);
