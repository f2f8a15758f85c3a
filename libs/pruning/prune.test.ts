import assert from 'node:assert/strict';
import { cp, mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { existsSync } from 'node:fs';
import type { HeartwoodError } from '../errors/error.js';
import { openCheckpoint } from '../models/checkpoint.js';
import { readSafetensors, readTensorBytes, writeSafetensors } from '../models/safetensors.js';
import { createRuntime } from '../runtime/runtime.js';
import type { TensorValue } from '../runtime/tensor.js';
import { imageManifest } from '../store/manifest.js';
import { openRepository } from '../store/repository.js';
import { digestArrays, readPredictors, writeArtefact } from './artefact.js';
import { importBaseline } from './baseline.js';
import type { Plan } from './plan.js';
import { POLICY_NAMES } from './policies/index.js';
import { prune } from './prune.js';
import type { PruneRequest } from './request.js';
import { memoryContext, smallShape, writeSmallModel } from './testing/small-model.js';

const root = await mkdtemp(join(tmpdir(), 'heartwood-pruning-'));
const runtime = createRuntime({ workers: 1, threads: 1 });
after(async () => {
  await runtime.close();
  await rm(root, { recursive: true, force: true });
});
const model = await writeSmallModel(root);
const work = join(root, 'work');

const request = (repository: string, more: Partial<PruneRequest> = {}): PruneRequest => ({
  ...model,
  name: 'small',
  repository: join(root, repository),
  lossBudget: 0.05,
  units: ['tokens'],
  policy: 'curvature',
  loss: 'kl',
  seed: 3,
  confidence: 0.95,
  ...more,
});

const pixels = (samples: number): TensorValue => ({
  type: 'float32',
  dims: [samples, 3, 16, 16],
  data: Float32Array.from({ length: samples * 768 }, (_, at) => Math.sin(at * at * 0.013)),
});
const budgets = (values: number[]): TensorValue => ({
  type: 'float32',
  dims: [values.length, 1],
  data: Float32Array.from(values),
});

const removedBy = new Map<string, string>();
const losses = new Map<string, number>();

describe('a pruning job', () => {
  test('publishes what it certified, and the artefact is its plan again', async () => {
    const { version, manifest, directory } = await prune(request('whole'), memoryContext(runtime, work));
    assert.equal(version, 2);
    const plan = manifest.plan as Plan;
    const { certificate } = plan;
    assert.ok(certificate.bound <= 0.05 && certificate.measured <= certificate.bound);
    assert.equal(certificate.samples, 60);
    assert.equal(manifest.budget?.default, 0.05);
    assert.ok(manifest.flops.mean < manifest.flops.dense);
    assert.deepEqual(imageManifest(manifest).tokens, { total: 17, special: 1, stages: [0, 1] });
    assert.equal(plan.data.fit + plan.data.search + plan.data.certify, 240);

    const arrays = await readPredictors(directory);
    assert.equal(digestArrays(arrays), plan.tokens?.predictors);
    const rebuilt = join(root, 'rebuilt');
    await mkdir(rebuilt);
    await writeArtefact(rebuilt, plan, await openCheckpoint(model.modelDirectory), arrays);
    for (const file of Object.keys(manifest.files)) {
      assert.deepEqual(await readFile(join(rebuilt, file)), await readFile(join(directory, file)), file);
    }
    const repository = await openRepository(join(root, 'whole'));
    await repository.verify('small', 2);
    // The weights are those of the checkpoint, not a copy.
    const [linked, original] = await Promise.all([
      stat(join(directory, 'model.safetensors')),
      stat(join(model.modelDirectory, 'model.safetensors')),
    ]);
    assert.equal(linked.ino, original.ino);
  });

  test('the served model: a batch answers as its samples alone, budgets differ within it, zero keeps all', async () => {
    const folder = join(root, 'whole', 'small');
    const served = await runtime.load(join(folder, '2', 'model.onnx'));
    const dense = await runtime.load(join(folder, '1', 'model.onnx'));
    const batch = pixels(6);
    const asked = [0, 0.01, 0.05, 0.5, 0.05, 5];
    const together = await served.run({ pixel_values: batch, budget: budgets(asked) });
    const unpruned = await dense.run({ pixel_values: batch });
    const kept = together['tokens_kept']!;
    assert.equal(kept.type, 'int32');
    const counts = Array.from({ length: 6 }, (_, row) =>
      Array.from((kept.data as Int32Array).slice(row * 2, row * 2 + 2)),
    );
    assert.deepEqual(counts[0], [17, 17]);
    assert.ok(new Set(counts.map(String)).size > 2, `counts ${JSON.stringify(counts)}`);
    const logits = together['logits']!.data as Float32Array;
    const reference = unpruned['logits']!.data as Float32Array;
    for (let i = 0; i < 5; i++) assert.ok(Math.abs(logits[i]! - reference[i]!) < 1e-4);
    for (let row = 0; row < 6; row++) {
      const data = (batch.data as Float32Array).slice(row * 768, (row + 1) * 768);
      const one = { type: 'float32', dims: [1, 3, 16, 16], data } as const;
      const alone = await served.run({ pixel_values: one, budget: budgets([asked[row]!]) });
      (alone['logits']!.data as Float32Array).forEach((value, i) => {
        assert.ok(Math.abs(value - logits[row * 5 + i]!) < 1e-4, `sample ${row}`);
      });
      assert.deepEqual(Array.from(alone['tokens_kept']!.data as Int32Array), counts[row]);
    }
  });

  test('killed after any stage and started again, it ends in the same plan, bit for bit', async () => {
    const reference = (await openRepository(join(root, 'whole'))).readManifest('small', 2);
    const kept = new Map<string, unknown>();
    const stages = ['import', 'score', 'predictor', 'plan', 'search', 'certify'];
    for (const stage of stages) {
      const context = memoryContext(runtime, work, { kept, stopAfter: stage });
      await assert.rejects(prune(request('resumed'), context), new RegExp(`killed after ${stage}`));
      assert.deepEqual(context.computed, [stage]);
    }
    const { manifest } = await prune(request('resumed'), memoryContext(runtime, work, { kept }));
    assert.deepEqual(manifest.plan, (await reference).plan);
    assert.deepEqual(manifest.files, (await reference).files);
  });

  test('another seed is another split, and another plan', async () => {
    const { manifest } = await prune(request('other', { seed: 4 }), memoryContext(runtime, work));
    const plan = (await (await openRepository(join(root, 'whole'))).readManifest('small', 2)).plan as Plan;
    assert.notDeepEqual((manifest.plan as Plan).tokens?.table, plan.tokens?.table);
  });

  for (const policy of POLICY_NAMES.filter((name) => name !== 'curvature')) {
    test(`policy ${policy} saves the FLOPs asked for, through the same machinery`, async () => {
      const { lossBudget: _, ...rest } = request('policies');
      const wish = { ...rest, policy, flopsSaved: 0.25 };
      const { manifest } = await prune(wish, memoryContext(runtime, work));
      const saved = 1 - manifest.flops.mean / manifest.flops.dense;
      assert.ok(Math.abs(saved - 0.25) < 0.05, `${saved}`);
      assert.equal(manifest.method?.policy, policy);
      assert.ok(manifest.deltaLoss!.bound >= manifest.deltaLoss!.measured);
    });
  }

  for (const policy of ['curvature', 'taylor', 'magnitude', 'random'] as const) {
    test(`policy ${policy} removes heads and neurons by its own order`, async () => {
      const { lossBudget: _, ...rest } = request('fixed');
      const wish = { ...rest, policy, units: ['heads', 'neurons'], flopsSaved: 0.2 };
      const { manifest } = await prune(wish, memoryContext(runtime, work));
      const saved = 1 - manifest.flops.mean / manifest.flops.dense;
      assert.ok(saved >= 0.2 && saved < 0.3, `${saved}`);
      const { removed, certificate } = manifest.plan as Plan;
      assert.ok(removed!.heads.flat().length + removed!.neurons.flat().length > 0);
      removedBy.set(policy, JSON.stringify([removed!.heads, removed!.neurons]));
      losses.set(policy, certificate.measured);
    });
  }

  test('the orders differ, and curvature loses the least', () => {
    assert.equal(new Set(removedBy.values()).size, 4);
    assert.equal(losses.get('curvature'), Math.min(...losses.values()));
  });

  test('heads and neurons alone: of the plans within the budget the last that holds', async () => {
    const wish = request('ladder', { units: ['heads', 'neurons'], lossBudget: 0.02 });
    const kept = new Map<string, unknown>();
    const { manifest } = await prune(wish, memoryContext(runtime, work, { kept }));
    const { removed, certificate } = manifest.plan as Plan;
    const tried = kept.get('plan') as { measured: number }[];
    assert.ok(tried.length > 1 && tried.every(({ measured }) => measured <= 0.02));
    assert.ok(tried.some((plan) => JSON.stringify(plan) === JSON.stringify(removed)));
    assert.ok(certificate.bound <= 0.02 && certificate.measured > 0);
    assert.equal(certificate.predicted, removed!.measured);
  });

  test('a budget in rise of the cross-entropy, and a budget beyond the table', async () => {
    const { lossBudget: _, ...rest } = request('currencies');
    const rise = await prune({ ...rest, loss: 'cross-entropy', flopsSaved: 0.1 }, memoryContext(runtime, work));
    const { certificate } = rise.manifest.plan as Plan;
    assert.equal(certificate.measured, certificate.crossEntropyRise);
    assert.ok(rise.manifest.budget!.default > 0);
    const { manifest } = await prune({ ...rest, lossBudget: 100 }, memoryContext(runtime, work));
    assert.ok(manifest.deltaLoss!.predicted < 5, `${manifest.deltaLoss!.predicted}`);
  });

  test('a publication that is there already is not made twice', async () => {
    const wish = request('once', { publication: 'job-1' });
    const first = await prune(wish, memoryContext(runtime, work));
    const again = memoryContext(runtime, work);
    const second = await prune(wish, again);
    assert.equal(second.version, first.version);
    assert.deepEqual(again.computed, []);
  });
});

describe('what cannot be done is said', () => {
  const refused = async (
    more: Partial<PruneRequest>,
    code: string,
    expected: RegExp,
    drop: (keyof PruneRequest)[] = [],
  ) => {
    const wish = { ...request('refused', more) } as Record<string, unknown>;
    for (const key of drop) delete wish[key];
    await assert.rejects(
      prune(wish as unknown as PruneRequest, memoryContext(runtime, work)),
      (error: HeartwoodError) => {
        assert.match(error.message, expected);
        assert.equal(error.code, code);
        return true;
      },
    );
  };

  test('too few samples', () =>
    refused({ samples: 40 }, 'INVALID_ARGUMENT', /data\.safetensors: 40 samples, expected 80 or more/));
  test('more FLOPs than can be saved', () =>
    refused(
      { flopsSaved: 0.97 },
      'FAILED_PRECONDITION',
      /share of 0\.97 .* cannot be saved; the most that can is 0\.\d+/,
      ['lossBudget'],
    ));
  test('a budget that saves nothing', () =>
    refused(
      { lossBudget: 0 },
      'FAILED_PRECONDITION',
      /budget of 0 nats saves nothing: .* FLOPs .* expected a greater one/,
    ));
  test('labels that are not there', async () => {
    const unlabelled = join(root, 'unlabelled.safetensors');
    const tensors = (await readSafetensors(model.data)).tensors;
    const pixels = tensors.get('pixel_values')!;
    const bytes = () => readTensorBytes(pixels);
    await writeSafetensors(unlabelled, [{ name: 'pixel_values', type: 'float32', shape: pixels.shape, bytes }]);
    for (const more of [{ policy: 'heart' }, { loss: 'cross-entropy' }] as const) {
      await refused(
        { ...more, data: unlabelled, repository: join(root, 'unlabelled') },
        'INVALID_ARGUMENT',
        /unlabelled\.safetensors: .* needs labels/,
      );
    }
    assert.ok(!existsSync(join(root, 'unlabelled', 'small')), 'nothing is published before that');
  });
  test('both targets', () => refused({ flopsSaved: 0.5 }, 'INVALID_ARGUMENT', /exactly one/));
  test('unknown units', () => refused({ units: ['channels'] }, 'INVALID_ARGUMENT', /units: channels, expected/));
  test('unknown policy', () =>
    refused({ policy: 'best' as never }, 'INVALID_ARGUMENT', /policy: best, expected one of/));
  test('no such data', () => refused({ data: join(root, 'absent') }, 'NOT_FOUND', /absent/));

  test('another checkpoint under the same name', async () => {
    const other = await writeSmallModel(join(root, 'another'), 24, { ...smallShape, seed: 9 });
    const context = { workDirectory: work, signal: new AbortController().signal };
    await importBaseline({ ...model, repository: join(root, 'taken'), name: 'small' }, context);
    await assert.rejects(
      importBaseline({ ...other, repository: join(root, 'taken'), name: 'small' }, context),
      /version 1 was made from another checkpoint/,
    );
  });

  test('a checkpoint that changes while the job is stopped', async () => {
    const copy = join(root, 'changing');
    await cp(model.modelDirectory, copy, { recursive: true });
    const kept = new Map<string, unknown>();
    const wish = request('changing', { modelDirectory: copy });
    await assert.rejects(prune(wish, memoryContext(runtime, work, { kept, stopAfter: 'import' })), /killed/);
    const config = JSON.parse(await readFile(join(copy, 'config.json'), 'utf8')) as Record<string, unknown>;
    await writeFile(join(copy, 'config.json'), JSON.stringify({ ...config, layer_norm_eps: 1e-3 }));
    await assert.rejects(prune(wish, memoryContext(runtime, work, { kept })), /changing: changed since this job began/);
  });
});
