import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { appendFile } from 'node:fs/promises';
import { join } from 'node:path';
import { meanModel, publishGraph } from './testing/fixture-models.js';
import { liveServer, type LiveServer, pixels, until } from './testing/live-server.js';

let live: LiveServer;
before(async () => {
  live = await liveServer();
});
after(() => live.stop());

test('a new version is picked up; promote pins another one; a pin taken away gives the newest again', async () => {
  await publishGraph(live.repository, 'live', meanModel(100));
  await until(() => live.client.modelReady('live', 1));
  const which = async () => (await live.client.infer({ model: 'live', pixels: pixels(1) })).version;
  assert.equal(await which(), 1);
  await publishGraph(live.repository, 'live', meanModel(200), { parent: 1 });
  await until(() => live.client.modelReady('live', 2));
  assert.equal(await which(), 2);
  await live.client.promote('live', 1);
  assert.equal(await which(), 1);
  await publishGraph(live.repository, 'live', meanModel(300), { parent: 1 });
  await until(() => live.client.modelReady('live', 3));
  assert.equal(await which(), 1);
  const listed = await live.client.listVersions('live');
  assert.deepEqual(
    listed.map(({ version, default: isDefault, pinned, facts }) => [version, isDefault, pinned, facts?.parent]),
    [
      [1n, true, true, 0n],
      [2n, false, false, 1n],
      [3n, false, false, 1n],
    ],
  );
  await live.client.promote('live', 0);
  assert.equal(await which(), 3);
  await assert.rejects(live.client.promote('live', 9), { code: 'NOT_FOUND' });
  await assert.rejects(live.client.promote('../live', 1), { code: 'INVALID_ARGUMENT' });
  await live.repository.remove('live', 3);
  await until(async () => !(await live.client.modelReady('live', 3)));
  assert.equal(await which(), 2);
  await assert.rejects(live.client.infer({ model: 'live', version: 3, pixels: pixels(1) }), { code: 'NOT_FOUND' });
  assert.doesNotMatch(await live.metrics(), /heartwood_model_ready\{model="live",version="3"\}/);
});

test('a version that cannot be loaded is UNAVAILABLE with the reason, and nothing else suffers', async () => {
  await publishGraph(live.repository, 'fragile', meanModel());
  await until(() => live.client.modelReady('fragile'));
  await live.repository.publish('fragile', async (directory) => {
    await appendFile(join(directory, 'model.onnx'), 'not a model');
    return { ...(await live.repository.readManifest('fragile', 1)), parent: 1 };
  });
  const stateOf = async (version: bigint) =>
    (await live.client.listVersions('fragile')).find((entry) => entry.version === version);
  await until(async () => ((await stateOf(2n))?.reason ?? '') !== '');
  assert.match((await stateOf(2n))?.reason ?? '', /model\.onnx: not a model that the runtime can load/);
  await assert.rejects(live.client.infer({ model: 'fragile', version: 2, pixels: pixels(1) }), {
    code: 'UNAVAILABLE',
    message: /version 2 of fragile: .*not a model/,
  });
  assert.equal((await live.client.infer({ model: 'fragile', pixels: pixels(1) })).version, 1);
  assert.match(await live.metrics(), /^heartwood_model_ready\{model="fragile",version="2"\} 0$/m);
});
