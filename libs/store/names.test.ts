import assert from 'node:assert/strict';
import { join, relative, resolve } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { HeartwoodError } from '../errors/error.js';
import { checkName, checkVersion, parseVersion } from './names.js';

const refused = (error: unknown) => error instanceof HeartwoodError && error.code === 'INVALID_ARGUMENT';

test('names that could leave the folder, hide or confuse are refused', () => {
  for (const name of [
    '',
    '.',
    '..',
    '../x',
    'a/b',
    'a\\b',
    '/etc',
    '.hidden',
    'a..b',
    'a b',
    'ä',
    'a\n',
    'a\0',
    '-x',
    'x'.repeat(129),
  ])
    assert.throws(() => checkName(name), refused, JSON.stringify(name));
  for (const name of ['a', 'vit-base_patch16.224', 'x'.repeat(128), '1']) assert.equal(checkName(name), name);
});

test('the message of a refused name is one line that names the field', () => {
  assert.throws(
    () => checkName('a\nb', 'model'),
    (error: Error) => error.message.startsWith('model: expected') && !error.message.includes('\n'),
  );
});

test('property: an accepted name is one plain folder below the repository, a refused one throws INVALID_ARGUMENT', () => {
  const pieces = fc.constantFrom('.', '..', '/', '\\', 'a', 'Z9', '-', '_', '\0', ' ', '~', '%2e', 'é');
  const names = fc.oneof(
    fc.string(),
    fc.string({ unit: 'binary' }),
    fc.array(pieces, { maxLength: 6 }).map((all) => all.join('')),
  );
  fc.assert(
    fc.property(names, (name) => {
      try {
        checkName(name);
      } catch (error) {
        return refused(error);
      }
      const path = relative('/repository', resolve(join('/repository', name)));
      return path === name && !path.includes('/') && !path.startsWith('.') && path.length > 0;
    }),
    { numRuns: 500 },
  );
});

test('property: versions are read back from exactly their own decimal name', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 2 ** 40 }),
      (version) => parseVersion(String(checkVersion(version))) === version,
    ),
  );
  for (const folder of ['0', '01', '-1', '1.0', '1e3', ' 1', '.staging-1', ''])
    assert.equal(parseVersion(folder), undefined);
  for (const version of [0, -1, 1.5, NaN, Infinity]) assert.throws(() => checkVersion(version), refused);
});
