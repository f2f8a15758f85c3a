import assert from 'node:assert/strict';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Metadata } from 'nice-grpc';
import { Registry } from '../../../libs/telemetry/metrics.js';
import { openMetrics } from '../../../libs/telemetry/open-metrics.js';
import type { Catalog } from '../catalog/catalog.js';
import type { ServedVersion } from '../catalog/served-version.js';
import { manifestBudget } from '../inference/budget.js';
import type { InferenceRecord } from '../inference/record.js';
import { traceOf } from '../inference/trace.js';
import { meanModel, publishGraph } from '../testing/fixture-models.js';
import { liveServer, type LiveServer, rawRequest, until } from '../testing/live-server.js';
import { InferenceMetrics } from './inference-metrics.js';
import { VersionMetrics } from './version-metrics.js';

let live: LiveServer;
before(async () => {
  live = await liveServer();
});
after(() => live.stop());

const openText = async (): Promise<string> =>
  (await fetch(live.metricsUrl, { headers: { accept: 'application/openmetrics-text' } })).text();

test('what a hostile client calls a model, a version or a request never becomes a label', async () => {
  const names = ['evil', 'net\n', 'a"} 1', '../net', '', 'x'.repeat(5000), '\u0000', 'net/2', '__proto__', 'unknown '];
  for (const [index, modelName] of names.entries()) {
    await assert.rejects(live.raw.modelInfer(rawRequest(1, { modelName, id: `evil ${index}` })));
    await assert.rejects(live.raw.modelInfer(rawRequest(1, { modelVersion: `9${index}`, id: modelName })));
    await assert.rejects(live.raw.modelInfer(rawRequest(1, { modelVersion: modelName || 'none' })));
  }
  const known = { model: ['net', 'unknown'], version: ['1', '2', 'unknown'] };
  for (const page of [await live.metrics(), await openText()]) {
    const text = page.replace(/^(nodejs|process)_.*$/gm, '');
    for (const [label, values] of Object.entries(known)) {
      const found = new Set([...text.matchAll(new RegExp(`[{,]${label}="([^"]*)"`, 'g'))].map(([, value]) => value!));
      assert.deepEqual(
        [...found].filter((value) => !values.includes(value)),
        [],
      );
    }
    assert.doesNotMatch(text, /evil|\.\.\/|xxxx|__proto__/);
  }
  const unknown = 'heartwood_inference_requests_total{model="unknown",version="unknown",outcome';
  const counted = await Promise.all(
    ['NOT_FOUND', 'INVALID_ARGUMENT'].map((outcome) => live.metric(`${unknown}="${outcome}"}`)),
  );
  assert.equal(counted[0]! + counted[1]!, 3 * names.length);
});

test('a slow request is found by its trace and its name, and only where they are such', async () => {
  const trace = '0af7651916cd43dd8448eb211c80319c';
  const metadata = new Metadata({ traceparent: `00-${trace}-b7ad6b7169203331-01` });
  await live.raw.modelInfer(rawRequest(1, { modelVersion: '1', id: 'camera-7' }), { metadata });
  const exemplars = (await openText())
    .split('\n')
    .filter((line) => /^heartwood_inference_duration_seconds_bucket\{.*version="1",phase="total"/.test(line))
    .flatMap((line) => line.split(' # ').slice(1));
  assert.ok(exemplars.length > 0);
  for (const exemplar of exemplars)
    assert.match(exemplar, /^\{trace_id="0af\w{29}",request_id="camera-7"\} [\d.e-]+ \d+/);
  assert.doesNotMatch(await live.metrics(), /camera-7/);

  assert.equal(traceOf(undefined, ''), undefined);
  assert.deepEqual(traceOf(`00-${'0'.repeat(32)}-b7ad6b7169203331-01`, 'a'), { request_id: 'a' });
  assert.deepEqual(traceOf(`00-${trace}-b7ad6b7169203331-01`, 'two words'), { trace_id: trace });
  for (const id of ['x'.repeat(65), 'a\nb', 'é', ' ']) assert.equal(traceOf('00-12-34-01', id), undefined);
});

test('calls that share a run count its size and its time once, each its own samples', async () => {
  const registry = new Registry();
  const metrics = new InferenceMetrics(registry);
  const version = { model: 'net', version: 2 } as unknown as ServedVersion;
  const execution = { startedAt: 1000, endedAt: 1500, samples: 3 };
  const record = (batch: number, id: string): InferenceRecord => ({
    version,
    outcome: 'OK',
    phases: { total: 700 },
    trace: traceOf(undefined, id),
    run: { batch, runBatch: 3, execution, tokens: 10, tokensKept: [[5]], flops: [7], budget: undefined },
  });
  metrics.ended(record(1, 'first'));
  metrics.ended(record(2, 'second'));
  const text = await openMetrics(registry);
  const labels = 'model="net",version="2"';
  for (const line of [
    `heartwood_inference_batch_size_count{${labels}} 1`,
    `heartwood_inference_batch_size_sum{${labels}} 3`,
    `heartwood_inference_compute_seconds_total{${labels}} 0.5`,
    `heartwood_inference_items_total{${labels}} 3`,
    `heartwood_inference_flops_total{${labels}} 14`,
    `heartwood_inference_requests_total{${labels},outcome="OK"} 2`,
  ])
    assert.ok(text.split('\n').includes(line), `${line} in\n${text}`);
  assert.match(text, /phase="total"\} 2 # \{request_id="second"\} 0\.7 /);
});

test('a version that cannot be loaded is told from one that is ready, and its gauges go with it', async () => {
  const failed = (version: number) => live.metric(`heartwood_model_load_failed{model="net",version="${version}"}`);
  const version = await publishGraph(live.repository, 'net', meanModel(7), { parent: 1 });
  const ready = `heartwood_model_ready{model="net",version="${version}"}`;
  await until(async () => (await live.metric(ready)) === 1);
  assert.equal(await failed(version), 0);
  await rm(join(live.repository.directory, 'net', String(version)), { recursive: true });
  await until(async () => !(await live.metrics()).includes(ready));

  const broken = await publishGraph(live.repository, 'broken', meanModel());
  await until(async () => (await live.metric(`heartwood_model_ready{model="broken",version="${broken}"}`)) === 1);
  await writeFile(join(live.repository.directory, 'broken', '1', 'heartwood.json'), '{}');
  await until(async () => (await live.metric('heartwood_model_load_failed{model="broken",version="1"}')) === 1);
  assert.equal(await live.metric('heartwood_model_ready{model="broken",version="1"}'), 0);
});

test('waiting and running are told apart, and the failures that alerts watch are there with 0', async () => {
  const text = await live.metrics();
  for (const version of ['1', '2']) {
    const labels = `model="net",version="${version}"`;
    for (const outcome of ['RESOURCE_EXHAUSTED', 'UNAVAILABLE', 'INTERNAL', 'DEADLINE_EXCEEDED'])
      assert.match(text, new RegExp(`requests_total\\{${labels},outcome="${outcome}"\\} 0\n`));
    for (const gauge of ['queue_length', 'running_requests', 'oldest_waiting_seconds'])
      assert.match(text, new RegExp(`heartwood_model_${gauge}\\{${labels}\\} 0\n`));
  }
  assert.match(text, /^heartwood_worker_restarts_total\{worker="0"\} 0$/m);

  const registry = new Registry();
  const versions = new VersionMetrics(registry, manifestBudget);
  const served = { running: 2, waiting: 3, oldestWaitingMs: 250, manifest: { budget: null } };
  const list = () => [{ model: 'net', version: 1, manifest: undefined, state: { kind: 'ready', served } }];
  versions.changed({ list } as unknown as Catalog);
  const busy = await registry.metrics();
  assert.match(busy, /queue_length\{.*\} 3\n/);
  assert.match(busy, /running_requests\{.*\} 2\n/);
  assert.match(busy, /oldest_waiting_seconds\{.*\} 0\.25\n/);
});
