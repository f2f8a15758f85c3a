import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HeartwoodError } from '../../../libs/errors/error.js';
import type { Manifest } from '../../../libs/store/manifest.js';
import type { Repository } from '../../../libs/store/repository.js';
import type { RepositorySnapshot, VersionEntry } from '../../../libs/store/snapshot.js';
import { createLogger } from '../../../libs/telemetry/log.js';
import { Catalog } from './catalog.js';
import type { ServedVersion } from './served-version.js';

/** A catalog over a made-up repository of one model `m`; versions in `broken` do not load. */
function catalogOf(broken: ReadonlySet<number> = new Set()) {
  const state = { versions: [] as number[], pinned: undefined as number | undefined, unreadable: false, generation: 0 };
  const manifests = new Map<string, Manifest>();
  const log: string[] = [];
  const entryOf = (version: number): VersionEntry => {
    const key = `${version}.${state.generation}`;
    const manifest = manifests.get(key) ?? ({ model: 'm', version } as Manifest);
    manifests.set(key, manifest);
    return { version, directory: `m/${version}`, manifest };
  };
  const snapshot = (): Promise<RepositorySnapshot> => {
    if (state.unreadable) return Promise.reject(new HeartwoodError('NOT_FOUND', 'gone'));
    const { pinned } = state;
    const versions = state.versions.map(entryOf);
    const model = { name: 'm', directory: 'm', versions, pinned, default: pinned ?? versions.at(-1)?.version };
    const models = new Map(versions.length > 0 ? [['m', model]] : []);
    return Promise.resolve({ models, problems: [], key: JSON.stringify(state) });
  };
  const load = (entry: VersionEntry): Promise<ServedVersion> => {
    log.push(`load ${entry.version}`);
    if (broken.has(entry.version)) return Promise.reject(new HeartwoodError('INVALID_ARGUMENT', 'broken file'));
    const retire = () => Promise.resolve(void log.push(`retire ${entry.version}`));
    return Promise.resolve({ version: entry.version, retire } as unknown as ServedVersion);
  };
  const listener = { changed: () => undefined };
  const catalog = new Catalog({ snapshot } as Repository, load, listener, createLogger('test', 'silent'));
  return { catalog, state, log };
}

test('the default is the pinned version, else the newest that is loaded', async () => {
  const { catalog, state } = catalogOf(new Set([3]));
  state.versions = [1, 2, 3];
  await catalog.sync();
  assert.equal(catalog.resolve('m', '').version, 2);
  assert.throws(() => catalog.resolve('m', '3'), { code: 'UNAVAILABLE', message: 'version 3 of m: broken file' });
  state.pinned = 1;
  await catalog.sync();
  assert.equal(catalog.resolve('m', '').version, 1);
  // Who pins a version wants that one: its failure is said, not papered over.
  state.pinned = 3;
  await catalog.sync();
  assert.throws(() => catalog.resolve('m', ''), { code: 'UNAVAILABLE' });
});

test('where nothing is loaded the newest says why', async () => {
  const { catalog, state } = catalogOf(new Set([1, 2]));
  state.versions = [1, 2];
  await catalog.sync();
  assert.throws(() => catalog.resolve('m', ''), { code: 'UNAVAILABLE', message: /version 2 of m: broken file/ });
});

test('a look that finds nothing new loads nothing; one at a time they load each version once', async () => {
  const { catalog, state, log } = catalogOf();
  state.versions = [1];
  await Promise.all([catalog.sync(), catalog.sync(), catalog.sync()]);
  state.versions = [1, 2];
  await Promise.all([catalog.sync(), catalog.sync()]);
  assert.deepEqual(log, ['load 1', 'load 2']);
});

test('what is gone is retired, what was replaced under its number is loaded anew', async () => {
  const { catalog, state, log } = catalogOf();
  state.versions = [1, 2];
  await catalog.sync();
  state.versions = [1];
  await catalog.sync();
  assert.throws(() => catalog.resolve('m', '2'), { code: 'NOT_FOUND' });
  state.generation++;
  await catalog.sync();
  assert.equal(catalog.resolve('m', '').version, 1);
  assert.deepEqual(log, ['load 1', 'load 2', 'retire 2', 'retire 1', 'load 1']);
  state.versions = [];
  await catalog.sync();
  assert.throws(() => catalog.resolve('m', ''), { code: 'NOT_FOUND', message: /model m/ });
});

test('a repository that cannot be read takes nothing away', async () => {
  const { catalog, state, log } = catalogOf();
  state.versions = [1];
  await catalog.sync();
  state.unreadable = true;
  await catalog.sync();
  assert.equal(catalog.resolve('m', '').version, 1);
  await catalog.stop();
  assert.deepEqual(log, ['load 1', 'retire 1']);
});
