import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { Generating } from '../../models/testing/generation.js';
import type { BlockCache } from '../../models/generation-graph.js';
import { createRuntime } from '../../runtime/runtime.js';
import type { TensorValue } from '../../runtime/tensor.js';
import { textManifest } from '../../store/manifest.js';
import { flopsAt } from '../../store/segments.js';
import type { Plan } from '../plan.js';
import { prune } from '../prune.js';
import type { PruneRequest } from '../request.js';
import { memoryContext } from '../testing/small-model.js';
import { writeSmallText } from '../testing/small-text-model.js';

const root = await mkdtemp(join(tmpdir(), 'heartwood-prompt-plan-'));
const runtime = createRuntime({ workers: 1, threads: 1 });
after(async () => {
  await runtime.close();
  await rm(root, { recursive: true, force: true });
});
const model = await writeSmallText(root);
const work = join(root, 'work');

const request = (repository: string, more: Partial<PruneRequest> = {}): PruneRequest => ({
  ...model,
  name: 'small',
  repository: join(root, repository),
  lossBudget: 0.2,
  units: ['tokens'],
  policy: 'curvature',
  loss: 'kl',
  window: 32,
  seed: 3,
  confidence: 0.95,
  ...more,
});

const prompt = Array.from({ length: 26 }, (_, i) => (i * i * 11 + 7 * i + 40) % 257);

/** Logits of the prompt's last token and of three after it, and the tokens that each stage kept of the prompt. */
async function generate(directory: string, budget?: number) {
  const session = await runtime.load(join(directory, 'model.onnx'));
  const blocks = session.inputs.filter(({ name }) => name.endsWith('.key'));
  const groups = Number(session.inputs.find(({ name }) => name === 'cached')!.shape[1]);
  const caches = blocks.map(({ shape }, block): BlockCache => ({
    heads: Number(shape[1]),
    width: Number(shape[3]),
    // That there are so many groups is all that the feeds need to know.
    group: block === 0 ? groups - 1 : 0,
    past: [`past.${block}.key`, `past.${block}.value`],
    present: [`present.${block}.key`, `present.${block}.value`],
  }));
  const stream = new Generating(session, caches, 1, 32);
  const given: TensorValue = { type: 'float32', dims: [1, 1], data: Float32Array.of(budget ?? 0) };
  const feeds = budget === undefined ? {} : { budget: given };
  const first = await stream.step({ ids: [prompt], feeds });
  const logits = [...(first['logits']!.data as Float32Array)];
  for (const id of [5, 77, 200])
    logits.push(...((await stream.step({ ids: [[id]], feeds }))['logits']!.data as Float32Array));
  await session.dispose();
  return { logits, kept: [...((first['tokens_kept']?.data as Int32Array | undefined) ?? [])] };
}

describe('prompt tokens as units of a plan', () => {
  test('a version whose budget drops them: certified, and 0 is version 1 bit for bit', async () => {
    const { manifest, directory } = await prune(request('tokens'), memoryContext(runtime, work));
    const { tokens, certificate, removed } = manifest.plan as Plan;
    assert.equal(removed, null);
    assert.deepEqual(textManifest(manifest).text.stages, [1, 2]);
    assert.equal(textManifest(manifest).text.costPrompt, 24);
    assert.deepEqual(
      tokens!.stages.map(({ block }) => block),
      [1, 2],
    );
    assert.equal(manifest.budget!.default, 0.2);
    assert.ok(certificate.measured > 0 && certificate.bound <= 0.2, `${certificate.measured} to ${certificate.bound}`);
    assert.ok(certificate.crossEntropy!.pruned > 0 && certificate.samples >= 20 && certificate.predictions! > 100);
    assert.ok(manifest.flops.mean < manifest.flops.dense);
    const { segments } = manifest.flops;
    assert.equal(segments.length, 3);
    assert.ok(flopsAt(segments, [24, 24], 24) > flopsAt(segments, [12, 6], 24));
    assert.ok((await readdir(directory)).includes('predictors.safetensors'));

    const dense = await generate(join(root, 'tokens', 'small', '1'));
    const zero = await generate(directory, 0);
    assert.deepEqual(zero.kept, [26, 26]);
    assert.deepEqual(zero.logits, dense.logits);
    const dropped = await generate(directory, 0.2);
    assert.ok(
      dropped.kept[0]! < 26 && dropped.kept[1]! <= dropped.kept[0]! && dropped.kept[1]! >= 9,
      dropped.kept.join(),
    );
    assert.notDeepEqual(dropped.logits, dense.logits);
  });

  test('heads and neurons go with them, under one budget', async () => {
    const wish = request('all', { units: ['tokens', 'heads', 'neurons'], lossBudget: 0.4 });
    const { manifest, directory } = await prune(wish, memoryContext(runtime, work));
    const { tokens, certificate, removed } = manifest.plan as Plan;
    assert.ok(removed!.neurons.flat().length > 0 && tokens);
    assert.ok(removed!.measured <= 0.35 * 0.4 && certificate.bound <= 0.4);
    const { kept } = await generate(directory, manifest.budget!.default);
    assert.ok(kept[1]! < 26, kept.join());
  });

  test('killed after any stage and started again, it ends in the same plan', async () => {
    const whole = (await prune(request('tokens', { name: 'again' }), memoryContext(runtime, work))).manifest;
    const kept = new Map<string, unknown>();
    for (const stage of ['import', 'score', 'predictor', 'plan', 'search', 'certify']) {
      const context = memoryContext(runtime, work, { kept, stopAfter: stage });
      await assert.rejects(prune(request('resumed'), context), new RegExp(`killed after ${stage}`));
      assert.deepEqual(context.computed, [stage]);
    }
    const { manifest } = await prune(request('resumed'), memoryContext(runtime, work, { kept }));
    assert.deepEqual(manifest.plan, whole.plan);
  });

  test('what cannot be done is said', async () => {
    const { lossBudget: _, ...rest } = request('refused');
    const context = () => memoryContext(runtime, work);
    await assert.rejects(prune({ ...rest, flopsSaved: 0.3 }, context()), /units: tokens: expected a loss budget/);
    await assert.rejects(
      prune(request('refused', { lossBudget: 1e-7 }), context()),
      /a loss budget of 1e-7 nats (cannot be certified: .* documents|saves nothing)/,
    );
  });
});
