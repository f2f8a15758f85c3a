import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, beforeEach, test } from 'node:test';
import { HeartwoodError } from '../errors/error.js';
import { lockFolder } from './folder-lock.js';

const root = mkdtempSync(join(tmpdir(), 'heartwood-lock-'));
const path = join(root, 'lock.json');
after(() => rmSync(root, { recursive: true, force: true }));
beforeEach(() => rmSync(path, { force: true }));

const inUse = (error: unknown) =>
  error instanceof HeartwoodError && error.code === 'FAILED_PRECONDITION' && /in use by process/.test(error.message);

test('a folder is locked once, by one of many that try at once, until it is released', async () => {
  const tries = await Promise.allSettled(Array.from({ length: 8 }, () => lockFolder(root)));
  const taken = tries.filter((result) => result.status === 'fulfilled');
  assert.equal(taken.length, 1);
  await assert.rejects(lockFolder(root), inUse);
  await taken[0]!.value.release();
  await (await lockFolder(root)).release();
  assert.deepEqual(readdirSync(root), []);
});

test('the lock of a process that is gone, or whose id another one has now, is taken over by exactly one', async () => {
  for (const dead of [
    { host: hostname(), pid: 4194999, started: 'boot/1' },
    { host: hostname(), pid: process.ppid, started: 'boot/1' },
  ]) {
    writeFileSync(path, JSON.stringify(dead));
    const tries = await Promise.allSettled(Array.from({ length: 6 }, () => lockFolder(root)));
    const taken = tries.filter((result) => result.status === 'fulfilled');
    assert.equal(taken.length, 1);
    assert.equal((JSON.parse(readFileSync(path, 'utf8')) as { pid: number }).pid, process.pid);
    await taken[0]!.value.release();
    assert.ok(!existsSync(path));
  }
});

test('a lock of another host holds until it has been silent for a minute', async () => {
  writeFileSync(path, JSON.stringify({ host: 'elsewhere', pid: 1, started: 'boot/1' }));
  await assert.rejects(lockFolder(root), inUse);
  const longAgo = new Date(Date.now() - 120_000);
  utimesSync(path, longAgo, longAgo);
  await (await lockFolder(root)).release();
});
