import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { z } from 'zod';
import { GraphBuilder } from '../../../../libs/onnx/builder.js';
import type { Graph } from '../../../../libs/onnx/ir.js';
import { mul, reduceMean } from '../../../../libs/onnx/ops/index.js';
import type { ManifestDraft } from '../../../../libs/store/publish.js';
import { createRuntime } from '../../../../libs/runtime/runtime.js';
import { createLogger } from '../../../../libs/telemetry/log.js';
import { createRegistry } from '../../../../libs/telemetry/metrics.js';
import { imageManifest } from '../../../../libs/store/manifest.js';
import { join } from 'node:path';
import { Catalog } from '../../catalog/catalog.js';
import { ServedClassifier } from '../../catalog/served-version.js';
import { manifestBudget } from '../../inference/budget.js';
import { Inference } from '../../inference/inference.js';
import { BatchingScheduler } from '../../scheduling/batching.js';
import { backgroundPriority, type InferenceJob, type Scheduler } from '../../scheduling/scheduler.js';
import { schedulingSchema } from '../../scheduling/settings.js';
import { budgetDraft, budgetModel, meanModel, publishGraph } from '../../testing/fixture-models.js';
import { liveServer, type LiveServer, pixels, until } from '../../testing/live-server.js';
import { temporaryRepository } from '../../testing/temporary-repository.js';
import { Shadowing } from './shadowing.js';

/** logits = the mean of each channel × factor: with −1 the last class comes first. */
function scaledModel(factor: number): Graph {
  const g = new GraphBuilder('scaled');
  const input = g.input('pixel_values', 'float32', ['B', 3, 8, 8]);
  return g.build([g.named('logits', mul(g, reduceMean(g, input, [2, 3], false), factor))]);
}

/** KL of softmax([0, 1, 2]) from softmax([0, 1, 2] · factor), nats. */
function klOfScaled(factor: number): number {
  const logits = [0, 1, 2];
  const log = (z: number[]) => z.map((value) => value - Math.log(z.reduce((sum, each) => sum + Math.exp(each), 0)));
  const [p, q] = [log(logits), log(logits.map((value) => factor * value))];
  return p.reduce((sum, value, at) => sum + Math.exp(value) * (value - q[at]!), 0);
}

const method = {
  policy: 'curvature',
  loss: 'kl' as const,
  lossBudget: 0.05,
  flopsSaved: null,
  units: ['heads'],
  seed: 0,
} satisfies ManifestDraft['method'];

describe('a server that shadows every request', () => {
  let live: LiveServer;
  before(async () => {
    live = await liveServer({ shadow: 1 });
  });
  after(() => live.stop());

  const of = (version: number) => `{model="net",version="${version}"}`;
  const compared = (version: number) =>
    live.metric(`heartwood_shadow_requests_total{model="net",version="${version}",outcome="compared"}`);
  /** One request after the other, each compared before the next. */
  const send = async (version: number, requests: number, extra: { budget?: number; outputs?: string[] } = {}) => {
    for (let sent = 0; sent < requests; sent++) {
      const earlier = await compared(version);
      const answer = await live.client.infer({ model: 'net', version, pixels: pixels(2), ...extra });
      if (extra.outputs) assert.deepEqual(Object.keys(answer.outputs), extra.outputs);
      await until(async () => (await compared(version)) === earlier + 1);
    }
  };

  test('a version that shifts all logits alike agrees, and loses nothing', async () => {
    await send(2, 3);
    assert.equal(await live.metric(`heartwood_shadow_agreements_total${of(2)}`), 6);
    assert.equal(await live.metric(`heartwood_shadow_kl_nats_count${of(2)}`), 6);
    assert.ok((await live.metric(`heartwood_shadow_kl_nats_sum${of(2)}`)) < 1e-5);
    assert.equal(await live.metric(`heartwood_shadow_latency_ratio_count${of(2)}`), 3);
    assert.equal(await live.metric(`heartwood_shadow_budget_broken${of(2)}`), 0);
    assert.equal(await live.metric(`heartwood_shadow_promised_loss_nats${of(2)}`), 0.25);
  });

  test('logits are compared whatever outputs were asked for', async () => {
    await send(2, 1, { outputs: ['tokens_kept'] });
  });

  test('a version that differs is measured, and the gauge says that its promise is broken', async () => {
    await publishGraph(live.repository, 'net', scaledModel(-1), { parent: 1, method });
    await until(() => live.client.modelReady('net', 3));
    await send(3, 9);
    const [kl, series] = [klOfScaled(-1), of(3)];
    // Of the second image in a request the logits are [10, 11, 12]: the same up to a shift.
    assert.ok(Math.abs((await live.metric(`heartwood_shadow_kl_nats_sum${series}`)) - 18 * kl) < 1e-4);
    assert.equal(await live.metric(`heartwood_shadow_agreements_total${series}`), 0);
    assert.equal(await live.metric(`heartwood_shadow_budget_broken${series}`), 0, 'eighteen samples say nothing yet');
    await send(3, 2);
    assert.equal(await live.metric(`heartwood_shadow_budget_broken${series}`), 1);
    assert.ok(Math.abs((await live.metric(`heartwood_shadow_kl_lower_bound_nats${series}`)) - kl) < 1e-4);
    assert.equal(await live.metric(`heartwood_shadow_budget_broken${of(2)}`), 0);
  });

  test('a version within its promise does not break it', async () => {
    await publishGraph(live.repository, 'net', scaledModel(0.9), { parent: 1, method });
    await until(() => live.client.modelReady('net', 4));
    await send(4, 11);
    assert.ok(klOfScaled(0.9) < 0.05);
    assert.ok((await live.metric(`heartwood_shadow_kl_lower_bound_nats${of(4)}`)) > 0);
    assert.equal(await live.metric(`heartwood_shadow_budget_broken${of(4)}`), 0);
    assert.equal(await live.metric(`heartwood_shadow_agreements_total${of(4)}`), 22);
  });

  test('what a request spends beyond the default budget is not held against the version', async () => {
    const earlier = await live.metric(`heartwood_shadow_kl_nats_count${of(2)}`);
    await send(2, 12, { budget: 2 });
    assert.equal(await live.metric(`heartwood_shadow_kl_nats_count${of(2)}`), earlier + 24);
    assert.doesNotMatch(await live.metrics(), /kl_lower_bound_nats\{model="net",version="2"\}/);
  });

  test('what goes to version 1 anyway, and what cannot be compared', async () => {
    await live.client.infer({ model: 'net', version: 1, pixels: pixels(1) });
    const g = new GraphBuilder('two-inputs');
    const input = g.input('pixel_values', 'float32', ['B', 3, 8, 8]);
    await publishGraph(live.repository, 'net', g.build([g.named('means', reduceMean(g, input, [2, 3], false))]));
    await until(() => live.client.modelReady('net', 5));
    await live.client.infer({ model: 'net', version: 5, pixels: pixels(1) });
    const outcome = (version: number, name: string) =>
      live.metric(`heartwood_shadow_requests_total{model="net",version="${version}",outcome="${name}"}`);
    assert.equal(await outcome(5, 'incomparable'), 1);
    assert.doesNotMatch(await live.metrics(), /heartwood_shadow_requests_total\{model="net",version="1"/);
    await live.repository.remove('net', 1, { force: true });
    await until(async () => !(await live.client.modelReady('net', 1)));
    await live.client.infer({ model: 'net', version: 2, pixels: pixels(1) });
    assert.equal(await outcome(2, 'unavailable'), 1);
  });
});

test('live calls come first: version 1 runs after all of them, one call at a time, and what finds the queue full is dropped', async () => {
  const { repository, remove } = await temporaryRepository();
  await publishGraph(repository, 'net', meanModel());
  await publishGraph(repository, 'net', budgetModel(), budgetDraft);
  const runtime = createRuntime({ workers: 1, threads: 1 });
  const log = createLogger('test', 'silent');
  const registry = createRegistry();
  const settings = z.object(schedulingSchema).parse({});
  const events: string[] = [];
  const shadowing = new Shadowing({ share: 1 }, registry, log);
  /** The real scheduler, which writes down when version 1 is asked. */
  const watched = (inner: Scheduler, name: string): Scheduler => ({
    admit: () => inner.admit(),
    get waiting() {
      return inner.waiting;
    },
    get pending() {
      return inner.pending;
    },
    get oldestWaitingMs() {
      return inner.oldestWaitingMs;
    },
    async submit(job: InferenceJob) {
      if (name === '1') events.push(`shadow begins, priority ${job.priority}`);
      const result = await inner.submit(job);
      if (name === '1') events.push('shadow ends');
      return result;
    },
  });
  const catalog = new Catalog(
    repository,
    async ({ manifest, version, directory }) => {
      const session = await runtime.load(join(directory, 'model.onnx'));
      return new ServedClassifier(
        imageManifest(manifest),
        watched(new BatchingScheduler(session, settings), String(version)),
        session,
      );
    },
    shadowing,
    log,
  );
  await catalog.sync();
  const live = { ended: () => void events.push('live ends') };
  const maker = {
    maxBatch: 8,
    maxImagePixels: 1e6,
    budgets: manifestBudget,
    preprocess: () => Promise.reject(new Error('no image is sent')),
  };
  const inference = new Inference(catalog, maker, [live, shadowing], (error) => assert.fail(String(error)), shadowing);
  const { signal } = new AbortController();
  const call = (purpose: 'client' | 'comparison' = 'client') => {
    const { dims, data } = pixels(1);
    const inputs = new Map([['pixel_values', { name: 'pixel_values', datatype: 'FP32', dims, data }]]);
    const contents = () => ({ inputs, outputs: [] });
    return inference.infer({ model: 'net', version: '2', purpose, contents }, signal, ({ outputs }) => outputs.length);
  };
  // Those of a comparison are not picked: 8 and 22 are of the 30.
  const purposes = [...new Array<'client'>(30).fill('client'), ...new Array<'comparison'>(5).fill('comparison')];
  const calls = purposes.length;
  await Promise.all(purposes.map(call));
  await until(async () => events.filter((event) => event === 'shadow ends').length === 8);
  assert.deepEqual(events.slice(0, calls), new Array(calls).fill('live ends'));
  const pair = [`shadow begins, priority ${backgroundPriority}`, 'shadow ends'];
  assert.deepEqual(events.slice(calls), new Array(8).fill(pair).flat());
  const text = await registry.metrics();
  assert.match(text, /heartwood_shadow_requests_total\{model="net",version="2",outcome="dropped"\} 22\n/);
  assert.match(text, /heartwood_shadow_requests_total\{model="net",version="2",outcome="compared"\} 8\n/);

  // The places are free again, and a stop lets go of what waits.
  await call();
  await until(async () => events.filter((event) => event === 'shadow ends').length === 9);
  await call();
  shadowing.stop();
  await call();
  await catalog.stop();
  await runtime.close();
  assert.ok(events.filter((event) => event === 'shadow ends').length <= 10);
  await remove();
});

test('about the share that was asked for is picked', async () => {
  const live = await liveServer({ shadow: 0.2 });
  const requests = 200;
  for (let sent = 0; sent < requests; sent++) await live.client.infer({ model: 'net', pixels: pixels(1) });
  const lines = (await live.metrics())
    .split('\n')
    .filter((line) => line.startsWith('heartwood_shadow_requests_total{'));
  const count = lines.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
  // Five standard deviations of a binomial count: 40 ± 28.
  assert.ok(count > 11 && count < 69, `${count} of ${requests}`);
  await live.stop();
});
