import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { makeFolders } from './make-folders.js';

const root = mkdtempSync(join(tmpdir(), 'heartwood-folders-'));
after(() => rmSync(root, { recursive: true, force: true }));

test('folders are made down to the last, by several at once, and again', async () => {
  const path = join(root, 'a', 'b', 'c');
  await Promise.all(Array.from({ length: 8 }, () => makeFolders(path)));
  assert.ok(statSync(path).isDirectory());
  await makeFolders(`${path}/`);
});

test('a link to a folder will do', async () => {
  symlinkSync(root, join(root, 'link'));
  await makeFolders(join(root, 'link'));
  await makeFolders(join(root, 'link', 'below'));
  assert.ok(existsSync(join(root, 'below')));
});

test('a file in the way is named', async () => {
  writeFileSync(join(root, 'file'), '');
  for (const path of [join(root, 'file'), join(root, 'file', 'x', 'y')])
    await assert.rejects(makeFolders(path), { code: 'INVALID_ARGUMENT', message: /file.*: cannot be written: E/ });
});

test(
  'a file system without room for folders is refused at once, however deep',
  { skip: existsSync('/proc/self') ? false : 'there is no /proc here' },
  async () => {
    for (const path of ['/proc/heartwood', '/proc/heartwood/data/jobs'])
      await assert.rejects(makeFolders(path, `repository ${path}`), {
        code: 'INVALID_ARGUMENT',
        message: `repository ${path}: cannot be made: /proc takes no folders`,
      });
  },
);
