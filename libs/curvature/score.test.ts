import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import type { Dataset } from '../data/dataset.js';
import { buildClassifier } from '../models/classifier.js';
import { GATE_KINDS, type GateKind } from '../models/gates.js';
import { loadGraph } from '../runtime/load-graph.js';
import { createRuntime } from '../runtime/runtime.js';
import { estimate } from './estimate.js';
import type { EstimatorKind } from './estimators.js';
import { curvatureFactors } from './factors.js';
import type { Loss } from './losses.js';
import { networkOf } from './networks.js';
import { scoreCheckpoint, type ScoreOptions } from './score.js';
import { scoresSchema } from './scores.js';
import { assertUnbiased, relative } from './testing/assertions.js';
import { smallModel } from './testing/small-model.js';
import { tensorDataset } from './testing/tensor-dataset.js';

const root = await mkdtemp(join(tmpdir(), 'heartwood-score-'));
const runtime = createRuntime({ workers: 1, threads: 1 });
const context = { runtime, workDirectory: join(root, 'work') };
after(async () => {
  await runtime.close();
  await rm(root, { recursive: true, force: true });
});

const { checkpoint, dataset } = await smallModel(root);
const indices = [0, 1, 2, 3, 4];
const score = (options: Partial<ScoreOptions> = {}) =>
  scoreCheckpoint({ checkpoint, dataset, indices, units: GATE_KINDS, ...options }, context);

describe('estimators', () => {
  const cases: [Loss, EstimatorKind][] = [
    ['kl', 'gate-signs'],
    ['kl', 'output-sketch'],
    ['cross-entropy', 'gate-signs'],
  ];
  for (const [loss, estimator] of cases) {
    test(`${estimator} under ${loss}: no bias over 12 seeds, and the error that is told`, async () => {
      const exact = await score({ loss, estimator: 'exact' });
      const units: GateKind[] = estimator === 'output-sketch' ? [...GATE_KINDS] : ['heads', 'masks'];
      const seeds = Array.from({ length: 12 }, (_, seed) => seed);
      const runs = [];
      for (const seed of seeds) runs.push(await score({ loss, estimator, units, probes: 4, seed }));
      for (const kind of units) {
        const estimates = runs.map(({ units }) => ({
          curvature: units[kind]!.curvature,
          standardError: units[kind]!.standardError!,
        }));
        assertUnbiased(estimates, exact.units[kind]!.curvature, kind);
      }
    });
  }

  test('exact by gates is exact by logits, interactions included', async () => {
    const options = {
      network: networkOf(checkpoint, dataset),
      indices,
      kinds: ['heads'],
      loss: 'kl',
      seed: 0,
      interactions: ['heads'],
      batch: 2,
    } as const;
    const byGates = await estimate({ ...options, probing: { space: 'gates', directions: 'units', count: 4 } }, context);
    const byLogits = await estimate(
      { ...options, probing: { space: 'logits', directions: 'units', count: 4 } },
      context,
    );
    const [a, b] = [byGates.kinds.get('heads')!, byLogits.kinds.get('heads')!];
    assert.ok(relative(a.curvature, b.curvature) < 1e-4);
    assert.ok(relative(a.interactions!, b.interactions!) < 1e-4);
  });

  test('exact takes products over gates where the classes are many', async () => {
    const many = await smallModel(root, { classes: 40 });
    const { units, estimator } = await score({ ...many, units: ['heads', 'neurons'], estimator: 'exact' });
    assert.deepEqual(estimator, { kind: 'exact', probes: 4, seed: 0 });
    assert.deepEqual(units.neurons!.estimator, { kind: 'exact', probes: 40, seed: 0 });
  });

  test('factors: UᵀU / K is the mean of the exact Hessian, and tends to it with a random direction a sample', async () => {
    const exact = await score({ units: ['heads', 'neurons'], estimator: 'exact', interactions: true });
    const [heads, neurons] = [exact.units.heads!.interactions!, exact.units.neurons!.interactions!];
    const samples = { dataset, indices };
    const { U, K, columns } = await curvatureFactors(
      checkpoint,
      samples,
      { kinds: ['heads', 'neurons'], seed: 0 },
      context,
    );
    assert.deepEqual(columns, [
      { kind: 'heads', gates: 4 },
      { kind: 'neurons', gates: 24 },
    ]);
    const entry = (i: number, j: number) => {
      let sum = 0;
      for (let row = 0; row < U.length; row += 28) sum += U[row + i]! * U[row + j]!;
      return (sum / K) * indices.length;
    };
    const block = (from: number, n: number) =>
      Array.from({ length: n * n }, (_, at) => entry(from + Math.floor(at / n), from + (at % n)));
    assert.ok(relative(block(0, 4), heads.flat()) < 1e-4);
    assert.ok(relative(block(4, 24), neurons.flat()) < 1e-4);

    // Too little room for a row of every class: one random row a sample, here of the same sample many times over.
    const many = { dataset: repeated(2, 600), indices: Array.from({ length: 600 }, (_, i) => i) };
    const random = await curvatureFactors(checkpoint, many, { kinds: ['heads'], seed: 1, bytes: 600 * 16 }, context);
    assert.equal(random.U.length, 600 * 4);
    const one = await score({ indices: [2], units: ['heads'], estimator: 'exact' });
    const diagonal = [0, 1, 2, 3].map((i) => {
      let sum = 0;
      for (let row = 0; row < 600; row++) sum += random.U[row * 4 + i]! ** 2;
      return sum / random.K;
    });
    assert.ok(relative(diagonal, one.units.heads!.curvature) < 0.2);
  });

  for (const estimator of ['gate-signs', 'output-sketch'] as const) {
    test(`interactions by ${estimator} tend to the exact ones`, async () => {
      const exact = await score({ units: ['heads'], estimator: 'exact', interactions: true });
      const { units } = await score({ units: ['heads'], estimator, probes: 1000, interactions: true, batch: 5 });
      const error = relative(units.heads!.interactions!.flat(), exact.units.heads!.interactions!.flat());
      assert.ok(error < 0.1, `off by ${error}`);
      units.heads!.interactions!.forEach((row, i) =>
        row.forEach((value, j) => assert.equal(value, units.heads!.interactions![j]![i])),
      );
    });
  }
});

/** One sample of the data, so many times over. */
function repeated(index: number, size: number): Dataset {
  return { ...dataset, size, read: () => dataset.read(index) };
}

/** KL(p ‖ q) of logits, and −log q[label]. */
function lossesOf(dense: Float32Array, gated: Float32Array, label: number): Record<Loss, number> {
  const logSoftmax = (z: Float32Array) => {
    const top = Math.max(...z);
    const total = Math.log(z.reduce((sum, v) => sum + Math.exp(v - top), 0)) + top;
    return [...z].map((v) => v - total);
  };
  const [p, q] = [logSoftmax(dense), logSoftmax(gated)];
  return { kl: p.reduce((sum, v, c) => sum + Math.exp(v) * (v - q[c]!), 0), 'cross-entropy': -q[label]! };
}

describe('exact scores against central differences of the network', () => {
  for (const kind of ['heads', 'masks', 'tokens', 'neurons'] as const) {
    test(kind, async () => {
      const { g, gates, logits } = buildClassifier(checkpoint, { lowering: 'canonical', gates: [kind] });
      const count = Number(gates.get(kind)!.value.shape[1]);
      const session = await loadGraph(runtime, g.build([g.named('logits', logits)]), context.workDirectory);
      const step = 0.05;
      // Rows: the unpruned model, then each gate up and down.
      const rows = 1 + 2 * count;
      const moved = new Float32Array(rows * count).fill(1);
      for (let i = 0; i < count; i++) {
        moved[(1 + i) * count + i]! += step;
        moved[(1 + count + i) * count + i]! -= step;
      }
      const { pixels, label } = await dataset.read(2);
      const repeated = new Float32Array(rows * pixels.length);
      for (let i = 0; i < rows; i++) repeated.set(pixels, i * pixels.length);
      const result = await session.run({
        pixel_values: { type: 'float32', dims: [rows, 3, 8, 8], data: repeated },
        [kind]: { type: 'float32', dims: [rows, count], data: moved },
      });
      await session.dispose();
      const all = result['logits']!.data as Float32Array;
      const at = (row: number) => lossesOf(all.subarray(0, 4), all.subarray(row * 4, row * 4 + 4), label!);
      for (const loss of ['kl', 'cross-entropy'] as const) {
        const scores = await score({ units: [kind], loss, estimator: 'exact', indices: [2] });
        const [zero, up, down] = [
          at(0)[loss],
          Array.from({ length: count }, (_, i) => at(1 + i)[loss]),
          Array.from({ length: count }, (_, i) => at(1 + count + i)[loss]),
        ];
        const second = up.map((value, i) => (value - 2 * zero + down[i]!) / step ** 2);
        const first = up.map((value, i) => (value - down[i]!) / (2 * step));
        const error = relative(scores.units[kind]!.curvature, second);
        assert.ok(error < 0.03, `${loss}: curvature is off by ${error}`);
        if (loss === 'cross-entropy') assert.ok(relative(scores.units[kind]!.gradient, first) < 0.01);
      }
    });
  }
});

describe('scores', () => {
  const sketch = { estimator: 'output-sketch', probes: 5, seed: 7, interactions: true } as const;

  test('repeat bit for bit under one seed, and differ under another', async () => {
    const first = await score(sketch);
    assert.deepEqual(await score(sketch), first);
    assert.notDeepEqual((await score({ ...sketch, seed: 8 })).units.masks!.curvature, first.units.masks!.curvature);
  });

  test('are the same in any batch', async () => {
    const whole = await score({ ...sketch, batch: 5 });
    for (const batch of [1, 2, 3]) {
      const parts = await score({ ...sketch, batch });
      for (const kind of GATE_KINDS) {
        const [a, b] = [parts.units[kind]!, whole.units[kind]!];
        assert.ok(relative(a.curvature, b.curvature) < 1e-6, `${kind} in batches of ${batch}`);
        assert.ok(relative(a.standardError!, b.standardError!) < 1e-6, `${kind} in batches of ${batch}`);
      }
    }
  });

  test('of a sample and a kind are the same without the others', async () => {
    const all = await score({ estimator: 'output-sketch', probes: 4 });
    const some = await score({ estimator: 'output-sketch', probes: 4, indices: [3, 1], units: ['masks'] });
    const masks = all.units.masks!.curvature;
    assert.ok(relative(some.units.masks!.curvature, [...masks.slice(30, 40), ...masks.slice(10, 20)]) < 1e-6);
  });

  test('are what the schema says', async () => {
    const exact = await score({ interactions: true });
    assert.deepEqual(scoresSchema.parse(JSON.parse(JSON.stringify(exact))), exact);
    assert.deepEqual(exact.units.masks!.shape, [5, 2, 5]);
    assert.deepEqual(exact.units.neurons!.shape, [2, 12]);
    assert.equal(exact.units.neurons!.interactions!.length, 24);
    assert.equal(exact.units.masks!.standardError, undefined);
    const sampled = await score({ loss: 'cross-entropy', units: ['masks'], estimator: 'gate-signs', probes: 3 });
    assert.deepEqual(sampled.estimator, { kind: 'gate-signs', probes: 3, seed: 0 });
    assert.equal(sampled.units.masks!.standardError!.length, 50);
  });

  test('progress ends at its total, over all kinds', async () => {
    const events: { done: number; total: number }[] = [];
    const progress = (event: { done: number; total: number }) => events.push(event);
    await scoreCheckpoint(
      {
        checkpoint,
        dataset,
        indices,
        units: ['heads', 'masks'],
        loss: 'cross-entropy',
        probes: 3,
        estimator: 'gate-signs',
      },
      { ...context, progress },
    );
    assert.equal(events.at(-1)!.done, 2 * 3 * 5);
    assert.ok(events.every(({ total }) => total === 30));
    assert.deepEqual(await readdir(context.workDirectory), []);
  });
});

describe('bad requests', () => {
  const unlabelled = tensorDataset(new Float32Array(192), undefined, 1);
  const cases: [string, Partial<ScoreOptions>, RegExp][] = [
    ['no labels', { loss: 'cross-entropy', dataset: unlabelled, indices: [0] }, /tensors has no labels, expected/],
    [
      'a label out of range',
      { loss: 'cross-entropy', dataset: tensorDataset(new Float32Array(192), [4]), indices: [0] },
      /sample 0 has the label 4, expected 0 to 3/,
    ],
    [
      'sketch of the cross-entropy',
      { loss: 'cross-entropy', estimator: 'output-sketch' },
      /output-sketch knows the loss kl alone/,
    ],
    ['one probe', { estimator: 'gate-signs', probes: 1 }, /probes is 1, expected an integer of at least 2/],
    ['no samples', { indices: [] }, /no samples/],
    ['no units', { units: [] }, /units: none/],
    [
      'images of another size',
      { dataset: tensorDataset(new Float32Array(300), [0]), indices: [0] },
      /a sample has 300 values, the model takes 3×8×8/,
    ],
  ];
  for (const [what, options, message] of cases) {
    test(what, async () => assert.rejects(score(options), { code: 'INVALID_ARGUMENT', message }));
  }

  test('cancelled', async () => {
    const signal = AbortSignal.abort();
    await assert.rejects(scoreCheckpoint({ checkpoint, dataset, indices, units: ['heads'] }, { ...context, signal }), {
      code: 'CANCELLED',
    });
  });
});
