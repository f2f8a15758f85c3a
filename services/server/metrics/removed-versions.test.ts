import assert from 'node:assert/strict';
import { test } from 'node:test';
import { exemplarHistogram, Counter, createRegistry, Histogram } from '../../../libs/telemetry/metrics.js';
import type { Catalog } from '../catalog/catalog.js';
import { RemovedVersions } from './removed-versions.js';
import { versionLabels } from './version-labels.js';

test('all series of a version that is gone end, and no others', async () => {
  const registry = createRegistry();
  const registers = [registry];
  const labelNames = ['model', 'version', 'phase'];
  const counter = new Counter({ name: 'calls_total', help: 'calls', labelNames, registers });
  const histogram = new Histogram({ name: 'size', help: 'sizes', labelNames, buckets: [1, 2], registers });
  const exemplars = exemplarHistogram(registry, { name: 'seconds', help: 'time', labelNames, buckets: [1, 2] });
  const other = new Counter({ name: 'restarts_total', help: 'restarts', labelNames: ['worker'], registers });
  other.inc({ worker: '0' });
  const tell = (version: number | undefined): void => {
    for (const phase of ['queue', 'compute']) {
      const labels = { ...versionLabels(version === undefined ? undefined : { model: 'net', version }), phase };
      counter.inc(labels);
      histogram.observe(labels, 1.5);
      exemplars.observe({ labels, value: 1.5, exemplarLabels: { request_id: 'a' } });
    }
  };
  const removed = new RemovedVersions(registry, (error) => assert.fail(String(error)));
  const changed = (...versions: number[]) =>
    removed.changed({ list: () => versions.map((version) => ({ model: 'net', version })) } as unknown as Catalog);
  const linesOf = async (label: string) =>
    (await registry.metrics()).split('\n').filter((line) => line.includes(label));

  for (const version of [1, 2, undefined]) tell(version);
  changed(1, 2);
  const before = await linesOf('version="1"');
  const unknown = await linesOf('version="unknown"');
  assert.equal((await linesOf('version="2"')).length, before.length);

  changed(1);
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(await linesOf('version="2"'), []);
  assert.deepEqual(await linesOf('version="1"'), before);
  assert.deepEqual(await linesOf('version="unknown"'), unknown);
  assert.equal((await linesOf('worker="0"')).length, 1);

  // A call that was under way when its version went has brought a series back: it ends with the next version.
  tell(2);
  changed(1, 3);
  tell(3);
  changed(1);
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(await linesOf('version="2"'), []);
  assert.deepEqual(await linesOf('version="3"'), []);
});
