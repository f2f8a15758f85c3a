import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { GraphBuilder } from '../../../libs/onnx/builder.js';
import type { Graph } from '../../../libs/onnx/ir.js';
import { reduceMean, reshape } from '../../../libs/onnx/ops/index.js';
import { createRuntime, type Runtime } from '../../../libs/runtime/runtime.js';
import type { TensorValue } from '../../../libs/runtime/tensor.js';
import type { Repository } from '../../../libs/store/repository.js';
import { imageManifest } from '../../../libs/store/manifest.js';
import { settingsOf } from '../options.js';
import { budgetDraft, budgetModel, meanModel, publishGraph } from '../testing/fixture-models.js';
import { liveServer, pixels, until } from '../testing/live-server.js';
import { temporaryRepository } from '../testing/temporary-repository.js';
import { loadVersion } from './served-version.js';
import { sizesToWarmUp, warmUp } from './warm-up.js';

const settings = (warmUpSizes: number[]) => ({
  ...settingsOf({ repository: 'models' }),
  instances: 1,
  warmUpSizes,
});

let repository: Repository;
let remove: () => Promise<void>;
let runtime: Runtime;
before(async () => {
  ({ repository, remove } = await temporaryRepository());
  runtime = createRuntime({ threads: 1 });
});
after(async () => {
  await runtime.close();
  await remove();
});

/** Loads as any other, and runs only with batches of `batch`: the elements of others do not fit its shape. */
function onlyBatchesOf(batch: number): Graph {
  const g = new GraphBuilder('only');
  const images = g.input('pixel_values', 'float32', ['B', 3, 8, 8]);
  return g.build([g.named('logits', reduceMean(g, reshape(g, images, [batch, 3, 64]), [2], false))]);
}

test('one sample, and the largest run that is preferred and allowed', () => {
  const sizes = (preferredBatches: number[], runBatch: number, maxBatch: number) =>
    sizesToWarmUp({ preferredBatches, runBatch, maxBatch });
  assert.deepEqual(sizes([], 8, 64), [1]);
  assert.deepEqual(sizes([8, 16, 4], 32, 64), [1, 16]);
  assert.deepEqual(sizes([8, 16], 12, 64), [1, 12]);
  assert.deepEqual(sizes([8, 16], 32, 6), [1, 6]);
});

test('every input is fed with what its type and the manifest allow', async () => {
  const version = await publishGraph(repository, 'budget', budgetModel(), { ...budgetDraft, parent: null });
  const { manifest, directory } = await repository.resolve('budget', version);
  const session = await runtime.load(`${directory}/model.onnx`);
  const fed: unknown[] = [];
  const listening: typeof session = {
    ...session,
    inputs: session.inputs,
    instances: 2,
    run: (feeds, options) => {
      const { pixel_values, budget } = feeds as Record<string, TensorValue>;
      const values = Array.from(pixel_values?.data as Float32Array);
      assert.ok(values.every((value) => value >= -1 && value < 1) && new Set(values).size > 100);
      fed.push([pixel_values?.dims, budget?.dims, Array.from(budget?.data as Float32Array)]);
      return session.run(feeds, options);
    },
  };
  await warmUp(listening, imageManifest(manifest), [1, 3]);
  const fedWith = (batch: number) => [[batch, 3, 8, 8], [batch, 1], Array.from({ length: batch }, () => 0.25)];
  assert.deepEqual(fed, [fedWith(1), fedWith(1), fedWith(3), fedWith(3)]);
  await session.dispose();
});

test('a version that cannot run a batch of the warm-up does not load, and says which', async () => {
  const version = await publishGraph(repository, 'only', onlyBatchesOf(1));
  const entry = await repository.resolve('only', version);
  const served = await loadVersion(repository, runtime, entry, settings([1]));
  await served.retire();
  await assert.rejects(loadVersion(repository, runtime, entry, settings([1, 4])), {
    message: /^the warm-up with a batch of 4 failed: /,
  });
});

test('an input that no client could send is not made up', async () => {
  for (const [type, size] of [
    ['float32', 2 ** 30],
    ['float32', 2 ** 52],
    ['string', 2 ** 24],
  ] as const) {
    const g = new GraphBuilder('huge');
    const images = g.input('pixel_values', 'float32', ['B', 3, 8, 8]);
    g.input('x', type, ['B', size]);
    const graph = g.build([g.named('logits', reduceMean(g, images, [2, 3], false))]);
    const version = await publishGraph(repository, 'huge', graph);
    const entry = await repository.resolve('huge', version);
    await assert.rejects(loadVersion(repository, runtime, entry, settings([1])), {
      code: 'INVALID_ARGUMENT',
      message: /^input x of shape .* is too large to be served/,
    });
  }
});

test('the server: a version whose warm-up fails is UNAVAILABLE with the reason, and nothing else suffers', async () => {
  const live = await liveServer({ loadControl: 'explicit', loadModels: ['net'] });
  try {
    await publishGraph(live.repository, 'net', onlyBatchesOf(5), { parent: 1 });
    await assert.rejects(
      live.raw.repositoryModelLoad({ modelName: 'net' }),
      /version 3 is at UNAVAILABLE state: the warm-up/,
    );
    await assert.rejects(live.client.infer({ model: 'net', version: 3, pixels: pixels(1) }), {
      code: 'UNAVAILABLE',
      message: /version 3 of net: the warm-up with a batch of 1 failed/,
    });
    assert.equal((await live.client.infer({ model: 'net', pixels: pixels(1) })).version, 2);
  } finally {
    await live.stop();
  }
  const cold = await liveServer({ warmUp: false });
  try {
    await publishGraph(cold.repository, 'cold', onlyBatchesOf(5));
    await publishGraph(cold.repository, 'cold', meanModel(), { parent: 1 });
    await until(() => cold.client.modelReady('cold', 2));
    assert.equal(await cold.client.modelReady('cold', 1), true);
  } finally {
    await cold.stop();
  }
});
