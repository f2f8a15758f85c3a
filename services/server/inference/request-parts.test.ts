import assert from 'node:assert/strict';
import { test } from 'node:test';
import sharp from 'sharp';
import type { ImageManifest } from '../../../libs/store/manifest.js';
import { sampleDraft } from '../../../libs/store/testing/versions.js';
import { Registry } from '../../../libs/telemetry/metrics.js';
import type { InferParameter } from '../../../proto/gen/open_inference_grpc.js';
import { budgetParameter } from './budget.js';
import { flopsOf, tokensKeptOf } from './flops.js';
import { ImagePool } from './image-pool.js';
import { settingsOf } from '../options.js';
import type { ServedVersion } from '../catalog/served-version.js';
import { InferenceMetrics } from '../metrics/inference-metrics.js';
import { budgetDraft } from '../testing/fixture-models.js';

const manifest = { ...sampleDraft(), ...budgetDraft } as unknown as ImageManifest;

test('the budget parameter is taken from any number, and from text that is one', () => {
  const of = (parameter: Partial<InferParameter>) => budgetParameter({ budget: parameter });
  assert.equal(of({ doubleParam: 0.05 }), 0.05);
  assert.equal(of({ doubleParam: 0 }), 0);
  assert.equal(of({ int64Param: 2n }), 2);
  assert.equal(of({ uint64Param: 3n }), 3);
  assert.equal(of({ stringParam: '1e-2' }), 0.01);
  assert.equal(of({ doubleParam: 3.4e38 }), 3.4e38);
  assert.equal(budgetParameter({}), undefined);
  for (const bad of [
    { doubleParam: NaN },
    { int64Param: -1n },
    { stringParam: '' },
    { stringParam: ' ' },
    { boolParam: false },
    {},
  ]) {
    assert.throws(() => of(bad), { code: 'INVALID_ARGUMENT', message: /parameter budget/ });
  }
});

test('metrics count what is finite, and never throw', async () => {
  const registry = new Registry();
  const metrics = new InferenceMetrics(registry);
  const version = { model: 'net', version: 2, manifest } as unknown as ServedVersion;
  const execution = { startedAt: 0, endedAt: 1, samples: 2 };
  const run = {
    batch: 2,
    runBatch: 2,
    execution,
    tokens: 17,
    tokensKept: [[NaN, 9]],
    flops: [NaN, 7],
    budget: [Infinity, 0.1],
  };
  metrics.ended({ version, outcome: 'OK', phases: {}, run });
  const text = await registry.metrics();
  assert.match(text, /inference_budget_nats_count\{.*\} 1\n/);
  assert.match(text, /inference_flops_total\{.*\} 7\n/);
  assert.match(text, /inference_tokens_kept_ratio_count\{.*stage="1".*\} 1\n/);
});

test('a request of many images waits without a warning of leaks', async () => {
  const warnings: Error[] = [];
  const listen = (warning: Error) => void warnings.push(warning);
  process.on('warning', listen);
  const pool = new ImagePool(1);
  const { signal } = new AbortController();
  const image = { create: { width: 2, height: 2, channels: 3, background: 'red' } } as const;
  const png = await sharp(image).png().toBuffer();
  const runs = Array.from({ length: 16 }, (_, i) => pool.preprocess(png, manifest.preprocessing, `${i}`, signal));
  await Promise.all(runs);
  await pool.close();
  process.off('warning', listen);
  assert.deepEqual(warnings, []);
});

test('FLOPs follow the tokens that each stage left', () => {
  const cost = (t: number) => 1 + 10 * t + t * t;
  assert.equal(flopsOf(manifest, [13, 9]), cost(17) + cost(13) + cost(9));
  assert.equal(flopsOf(manifest, [17, 17]), 3 * cost(17));
  const output = { type: 'int32', dims: [2, 2], data: Int32Array.of(13, 9, 17, 1) } as const;
  assert.deepEqual(tokensKeptOf(manifest, output, 2), [
    [13, 9],
    [17, 1],
  ]);
  assert.deepEqual(tokensKeptOf({ ...manifest, tokens: { total: 17, special: 1, stages: [] } }, undefined, 2), [
    [],
    [],
  ]);
});

test('options: defaults are filled in, a wrong one is named', () => {
  const settings = settingsOf({ repository: 'models' });
  assert.deepEqual(
    [settings.port, settings.metricsPort, settings.maxMessageBytes, settings.maxBatch],
    [8001, 8002, 67108864, 64],
  );
  assert.throws(() => settingsOf({ repository: 'models', port: 70000 }), {
    code: 'INVALID_ARGUMENT',
    message: /option --port/,
  });
  assert.throws(() => settingsOf({ repository: '' }), { message: /option --repository/ });
});

test('images are preprocessed in threads; a broken one fails alone and by name', async () => {
  const pool = new ImagePool(2);
  const pixels = { create: { width: 5, height: 7, channels: 3, background: { r: 255, g: 0, b: 255 } } } as const;
  const png = await sharp(pixels).png().toBuffer();
  const { signal } = new AbortController();
  const run = (bytes: Uint8Array, name: string) => pool.preprocess(bytes, manifest.preprocessing, name, signal);
  const [good, bad, again] = await Promise.allSettled([run(png, 'a'), run(png.subarray(0, 40), 'b'), run(png, 'c')]);
  assert.ok(good.status === 'fulfilled' && again.status === 'fulfilled' && bad.status === 'rejected');
  assert.equal(good.value.length, 3 * 8 * 8);
  assert.deepEqual([good.value[0], good.value[64], good.value[128]], [1, -1, 1]);
  assert.deepEqual(again.value, good.value);
  assert.equal(bad.reason.code, 'INVALID_ARGUMENT');
  assert.match(bad.reason.message, /^b is not an image/);
  await pool.close();
});
