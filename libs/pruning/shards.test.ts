import assert from 'node:assert/strict';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { arithmeticOf } from '../curvature/arithmetic.js';
import { shardSize } from '../curvature/shards.js';
import { encodeCheckpoint, decodeCheckpoint } from '../store/jobs/checkpoint-format.js';
import { ShardRefused } from '../store/jobs/held-shard.js';
import type { SharedWork } from '../store/jobs/shared-task.js';
import { createRuntime, type Runtime } from '../runtime/runtime.js';
import { withThreads } from '../runtime/with-threads.js';
import { prune } from './prune.js';
import type { PruneRequest } from './request.js';
import { shardMeasuring } from './shards.js';
import { memoryContext, writeSmallModel } from './testing/small-model.js';
import { writeSmallText } from './testing/small-text-model.js';

let root: string;
let runtime: Runtime;
let model: Pick<PruneRequest, 'modelDirectory' | 'data'>;
before(async () => {
  root = await mkdtemp(join(tmpdir(), 'heartwood-shards-'));
  runtime = createRuntime({ workers: 1, threads: 1 });
  model = await writeSmallModel(root);
});
after(async () => {
  await runtime.close();
  await rm(root, { recursive: true, force: true });
});

const request = (more: Partial<PruneRequest> = {}): PruneRequest => ({
  ...model,
  name: 'small',
  repository: join(root, 'repository'),
  lossBudget: 0.05,
  units: ['tokens'],
  policy: 'curvature',
  loss: 'kl',
  seed: 3,
  confidence: 0.95,
  shardSamples: 32,
  ...more,
});

/** Keeps what is to be done, and has another runtime do it as a worker would, last shard first. */
function elsewhere(posted: unknown[], hands: Runtime): SharedWork {
  return {
    async *run(contents) {
      const texts = contents.map((content) => JSON.stringify(content));
      const work = shardMeasuring({ runtime: hands, workDirectory: join(root, 'worker') });
      const results: unknown[] = [];
      for (let part = texts.length - 1; part >= 0; part--) {
        const content: unknown = JSON.parse(texts[part]!);
        posted.push(content);
        const value = await work.take(content, new AbortController().signal);
        results[part] = (await decodeCheckpoint(encodeCheckpoint(value)))!.value;
      }
      await work.rest();
      yield* results;
    },
  };
}

test('shards are whole runs, some of them unless told', () => {
  assert.equal(shardSize(64, 16), 64);
  assert.equal(shardSize(64, 16, 1), 16);
  assert.equal(shardSize(64, 16, 17), 32);
  assert.equal(shardSize(8192, 1), 1);
});

for (const [what, more] of [
  ['curvature of tokens and heads', { units: ['tokens', 'heads'] }],
  ['the published score', { policy: 'heart' }],
  ['slopes', { units: ['heads'], policy: 'taylor' }],
] as const) {
  test(`measured elsewhere, in another order and with other threads, ${what} makes the same plan`, async () => {
    const hands = createRuntime({ workers: 1, threads: 2 });
    const posted: unknown[] = [];
    try {
      const name = what.replaceAll(' ', '-');
      const here = await prune(request({ ...more, name }), memoryContext(runtime, join(root, 'work')));
      const context = memoryContext(runtime, join(root, 'work'));
      const shared = elsewhere(posted, hands);
      const there = await prune(request({ ...more, name }), { ...context, shared });
      assert.ok(posted.length >= 2);
      assert.deepEqual(there.manifest.plan, here.manifest.plan);
      assert.deepEqual(there.manifest.files, here.manifest.files);
    } finally {
      await hands.close();
    }
  });
}

for (const units of [['tokens'], ['heads', 'bits']]) {
  test(`so does a language model's ${units.join(' and ')}`, async () => {
    const text = await writeSmallText(join(root, `text-${units[0]}`));
    const posted: unknown[] = [];
    const name = `text-${units[0]}`;
    const asked = request({ ...text, units, name, lossBudget: 0.5, shardSamples: 4 });
    const here = await prune(asked, memoryContext(runtime, join(root, 'work')));
    const context = memoryContext(runtime, join(root, 'work'));
    const there = await prune(asked, { ...context, shared: elsewhere(posted, runtime) });
    assert.ok(posted.length >= 2);
    assert.deepEqual(there.manifest.plan, here.manifest.plan);
    assert.deepEqual(there.manifest.files, here.manifest.files);
  });
}

test('a worker that reads another model, other data, or computes otherwise refuses, and says what', async () => {
  const posted: { model: { directory: string }; data: { path: string }; arithmetic: string }[] = [];
  const context = memoryContext(runtime, join(root, 'work'));
  await prune(request({ name: 'whole' }), { ...context, shared: elsewhere(posted, runtime) });
  const content = posted[0]!;
  const work = shardMeasuring({ runtime, workDirectory: join(root, 'worker') });
  const { signal } = new AbortController();
  const refused = (changed: unknown, reason: RegExp) =>
    assert.rejects(work.take(changed, signal), (error) => error instanceof ShardRefused && reason.test(error.message));

  const other = join(root, 'other');
  await cp(model.modelDirectory, other, { recursive: true });
  const file = join(other, 'model.safetensors');
  const weights = await readFile(file);
  weights[weights.length - 1]! ^= 1;
  await writeFile(file, weights);
  await refused(
    { ...content, model: { ...content.model, directory: other } },
    /other: has the digest \w+… here, expected \w+…, the job's$/,
  );
  await cp(join(model.modelDirectory, 'model.safetensors'), file);
  await writeFile(
    join(other, 'preprocessor_config.json'),
    JSON.stringify({ size: { height: 16, width: 16 }, image_mean: [0.1, 0.1, 0.1] }),
  );
  await refused({ ...content, model: { ...content.model, directory: other } }, /what is done to images first/);
  await refused({ ...content, model: { ...content.model, directory: join(root, 'gone') } }, /gone/);
  const data = join(root, 'other-data.safetensors');
  const bytes = await readFile(model.data);
  bytes[bytes.length >> 1]! ^= 1;
  await writeFile(data, bytes);
  await refused({ ...content, data: { ...content.data, path: data } }, /other-data.* has the digest/);
  await refused({ ...content, arithmetic: 'another processor' }, /rounds otherwise/);
  const small = shardMeasuring({ runtime, mostThreads: 1, workDirectory: join(root, 'worker') });
  await assert.rejects(
    small.take({ ...content, threads: 2 }, signal),
    /computes with 2 threads .* has 1 \(--threads\)/,
  );
  const guarded = shardMeasuring({
    runtime,
    workDirectory: join(root, 'worker'),
    allowed: () => Promise.reject(new Error('model_directory: expected a path below /models')),
  });
  await assert.rejects(guarded.take(content, signal), /below \/models/);
  await work.take(content, signal);
  await work.rest();
});

test('how a runtime rounds depends on its threads, which is why a session can have those of another', async () => {
  const two = createRuntime({ workers: 1, threads: 2 });
  try {
    assert.equal(await arithmeticOf(withThreads(two, 1)), await arithmeticOf(runtime));
    assert.equal(await arithmeticOf(withThreads(runtime, 2)), await arithmeticOf(two));
  } finally {
    await two.close();
  }
});
