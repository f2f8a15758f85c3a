import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HeartwoodError } from '../../../libs/errors/error.js';
import type { Manifest } from '../../../libs/store/manifest.js';
import type { Repository } from '../../../libs/store/repository.js';
import type { RepositorySnapshot, VersionEntry } from '../../../libs/store/snapshot.js';
import { createLogger } from '../../../libs/telemetry/log.js';
import { Catalog } from './catalog.js';
import type { LoadSettings } from './load-control.js';
import { Attempts } from './attempts.js';
import type { ServedVersion } from './served-version.js';

/** A catalog over a made-up repository of one model `m`; versions in `broken` do not load. */
function catalogOf(broken: ReadonlySet<number> = new Set(), settings?: LoadSettings) {
  const state = { versions: [] as number[], pinned: undefined as number | undefined, unreadable: false, generation: 0 };
  const manifests = new Map<string, Manifest>();
  const log: string[] = [];
  const lose: Record<number, (reason: HeartwoodError) => void> = {};
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
    const lost = new Promise((resolve) => (lose[entry.version] = resolve));
    return Promise.resolve({ version: entry.version, retire, broken: lost } as unknown as ServedVersion);
  };
  const listener = { changed: () => undefined };
  const catalog = new Catalog({ snapshot } as Repository, load, listener, createLogger('test', 'silent'), settings);
  return { catalog, state, log, lose };
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

const statesOf = (catalog: Catalog) =>
  catalog
    .list()
    .map(({ version, state }) => `${version} ${state.kind}${state.kind === 'unavailable' ? `: ${state.reason}` : ''}`);

test('explicit control: what is loaded is what somebody asked for', async () => {
  const broken = new Set<number>();
  const { catalog, state, log } = catalogOf(broken, { control: 'explicit', atStart: [] });
  state.versions = [1];
  await catalog.sync();
  assert.deepEqual(statesOf(catalog), ['1 unavailable: it is not loaded']);
  assert.throws(() => catalog.resolve('m', ''), { code: 'UNAVAILABLE', message: 'version 1 of m: it is not loaded' });

  await catalog.loadModel('m');
  assert.equal(catalog.resolve('m', '').version, 1);
  // Loaded again it stays as it is: nothing of it has changed.
  await catalog.loadModel('m');
  assert.deepEqual(log, ['load 1']);

  state.versions = [1, 2];
  state.pinned = 1;
  await catalog.sync();
  assert.deepEqual(statesOf(catalog), ['1 ready', '2 unavailable: it is not loaded']);
  assert.equal(catalog.pinned('m'), 1);

  // One version fails by name and the other serves; once its cause is gone it loads.
  broken.add(2);
  await assert.rejects(catalog.loadModel('m'), {
    code: 'FAILED_PRECONDITION',
    message: 'version 2 is at UNAVAILABLE state: broken file',
  });
  assert.deepEqual(statesOf(catalog), ['1 ready', '2 unavailable: broken file']);
  broken.clear();
  await catalog.loadModel('m');
  assert.deepEqual(statesOf(catalog), ['1 ready', '2 ready']);

  // What is gone from the repository, or replaced, is served until somebody asks.
  state.versions = [1];
  state.generation++;
  await catalog.sync();
  assert.deepEqual(statesOf(catalog), ['1 ready', '2 ready']);
  log.length = 0;
  await catalog.loadModel('m');
  assert.deepEqual(log, ['retire 1', 'retire 2', 'load 1']);

  await catalog.unloadModel('m');
  assert.deepEqual(statesOf(catalog), ['1 unavailable: unloaded']);
  assert.equal(log.at(-1), 'retire 1');
  await catalog.sync();
  assert.deepEqual(statesOf(catalog), ['1 unavailable: unloaded']);
  await catalog.loadModel('m');
  assert.deepEqual(statesOf(catalog), ['1 ready']);

  await assert.rejects(catalog.loadModel('absent'), { code: 'NOT_FOUND' });
  await assert.rejects(async () => catalog.loadModel('../m'), { code: 'INVALID_ARGUMENT' });
  await catalog.unloadModel('absent');
  state.unreadable = true;
  await assert.rejects(catalog.loadModel('m'), { code: 'UNAVAILABLE', message: /repository cannot be read: gone/ });
});

test('explicit control loads at the start what it is told to', async () => {
  for (const [atStart, loaded] of [
    [['m'], ['load 1']],
    [['*'], ['load 1']],
    [['other'], []],
  ] as const) {
    const { catalog, state, log } = catalogOf(new Set(), { control: 'explicit', atStart });
    state.versions = [1];
    await catalog.sync();
    assert.deepEqual(log, loaded);
  }
});

test('a look while the start still loads takes nothing from it', async () => {
  const { catalog, state, log } = catalogOf(new Set(), { control: 'explicit', atStart: ['m'] });
  state.versions = [1, 2];
  await Promise.all([catalog.sync(), catalog.sync(), catalog.sync()]);
  assert.deepEqual(log, ['load 1', 'load 2']);
  assert.deepEqual(statesOf(catalog), ['1 ready', '2 ready']);
});

test('stopping waits for a load under way, and frees what it loaded', async () => {
  const { catalog, state, log } = catalogOf(new Set(), { control: 'explicit', atStart: [] });
  state.versions = [1];
  await catalog.sync();
  const loading = catalog.loadModel('m');
  await catalog.stop();
  await assert.rejects(loading, { code: 'UNAVAILABLE', message: 'the server is stopping' });
  assert.equal(log.filter((line) => line === 'load 1').length, log.filter((line) => line === 'retire 1').length);
});

test('without any control the start alone loads, and promoting works', async () => {
  const { catalog, state, log } = catalogOf(new Set(), { control: 'none', atStart: [] });
  state.versions = [1, 2];
  await catalog.sync();
  state.versions = [2, 3];
  state.pinned = 2;
  catalog.start(1);
  await catalog.sync();
  assert.deepEqual(log, ['load 1', 'load 2']);
  assert.deepEqual(statesOf(catalog), ['1 ready', '2 ready', '3 unavailable: it is not loaded']);
  assert.equal(catalog.resolve('m', '').version, 2);
  await catalog.stop();
});

test('a version whose workers are lost for good is unavailable with the reason, and freed', async () => {
  const { catalog, state, log, lose } = catalogOf(new Set());
  state.versions = [1, 2];
  await catalog.sync();
  lose[2]?.(new HeartwoodError('UNAVAILABLE', 'could not be loaded again'));
  await new Promise((resolve) => setImmediate(resolve));
  assert.throws(() => catalog.resolve('m', '2'), { code: 'UNAVAILABLE', message: /could not be loaded again/ });
  assert.equal(catalog.resolve('m', '').version, 1);
  assert.equal(log.at(-1), 'retire 2');
  await catalog.stop();
});

test('failed loads are tried again at growing pauses, and what workers die of is given up', () => {
  const attempts = new Attempts();
  const wrong = new HeartwoodError('INVALID_ARGUMENT', 'no such file');
  assert.equal(attempts.due('m', 1, 1e9), false, 'nothing failed yet');
  attempts.failed('m', 1, wrong, 0);
  assert.equal(attempts.due('m', 1, 4_999), false);
  assert.equal(attempts.due('m', 1, 5_000), true);
  attempts.failed('m', 1, wrong, 5_000);
  assert.equal(attempts.due('m', 1, 14_999), false);
  assert.equal(attempts.due('m', 1, 15_000), true);
  for (let i = 0; i < 30; i++) attempts.failed('m', 1, wrong, 0);
  assert.equal(attempts.due('m', 1, 300_000), true, 'at most five minutes');
  attempts.succeeded('m', 1);
  assert.equal(attempts.due('m', 1, 1e9), false);
  for (let i = 0; i < 3; i++) attempts.failed('m', 2, new HeartwoodError('UNAVAILABLE', 'the worker died'), 0);
  assert.equal(attempts.due('m', 2, 1e9), false);
  attempts.forget('m', 2);
  attempts.failed('m', 2, wrong, 0);
  assert.equal(attempts.due('m', 2, 5_000), true, 'another version under its number');
});
