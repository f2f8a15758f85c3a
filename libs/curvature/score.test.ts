import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import type { Dataset } from '../data/dataset.js';
import { windowDataset, type TextDataset } from '../data/text/dataset.js';
import { GATE_KINDS, unitsOf, type GateKind } from '../models/gates.js';
import { loadGraph } from '../runtime/load-graph.js';
import { createRuntime } from '../runtime/runtime.js';
import { estimate } from './estimate.js';
import type { EstimatorKind } from './estimators.js';
import { curvatureFactors } from './factors.js';
import type { Loss } from './losses.js';
import { outputsOf, type SampleBatch } from './network.js';
import { networkOf } from './networks.js';
import { scoreCheckpoint, type ScoreOptions } from './score.js';
import { scoresSchema } from './scores.js';
import { assertUnbiased, relative } from './testing/assertions.js';
import { smallLanguageModel, smallModel } from './testing/small-models.js';
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
const models = { vision: { checkpoint, dataset }, language: await smallLanguageModel(root) };
const score = (options: Partial<ScoreOptions> = {}) =>
  scoreCheckpoint({ checkpoint, dataset, indices, units: GATE_KINDS, ...options }, context);

for (const [name, model] of Object.entries(models)) {
  describe(`estimators of a small ${name} model`, () => {
    const cases: [Loss, EstimatorKind][] = [
      ['kl', 'gate-signs'],
      ['kl', 'output-sketch'],
      ['cross-entropy', 'gate-signs'],
    ];
    for (const [loss, estimator] of cases) {
      test(`${estimator} under ${loss}: no bias over 30 seeds, and the error that is told`, async () => {
        const exact = await score({ ...model, loss, estimator: 'exact' });
        const units: GateKind[] = estimator === 'output-sketch' ? [...GATE_KINDS] : ['heads', 'masks'];
        const seeds = Array.from({ length: 30 }, (_, seed) => seed);
        const runs = [];
        for (const seed of seeds) runs.push(await score({ ...model, loss, estimator, units, probes: 4, seed }));
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
      const network = networkOf(model.checkpoint, model.dataset);
      const kinds = ['heads'] as const;
      const options = { network, indices, kinds, loss: 'kl', seed: 0, interactions: kinds, batch: 2 } as const;
      const by = (space: 'gates' | 'logits', count: number) =>
        estimate({ ...options, probing: { space, directions: 'units', count } }, context);
      const [byGates, byLogits] = [await by('gates', 4), await by('logits', outputsOf(network))];
      const [a, b] = [byGates.kinds.get('heads')!, byLogits.kinds.get('heads')!];
      assert.ok(relative(a.curvature, b.curvature) < 1e-4);
      assert.ok(relative(a.interactions!, b.interactions!) < 1e-4);
      assert.equal(byGates.rows, indices.length * (name === 'language' ? 5 : 1));
    });

    test('factors: random directions tend to the exact Hessian of the mean over rows', async () => {
      // One sample many times over, a direction each.
      const many = { dataset: repeated(model.dataset, 2, 600), indices: Array.from({ length: 600 }, (_, i) => i) };
      const kinds = ['heads'] as const;
      const options = { kinds, seed: 1, bytes: 600 * 16 };
      const { U, K } = await curvatureFactors(model.checkpoint, many, options, context);
      assert.equal(U.length, 600 * 4);
      const one = await score({ ...model, indices: [2], units: kinds, estimator: 'exact', interactions: true });
      const found = Array.from({ length: 16 }, (_, at) => {
        let sum = 0;
        for (let row = 0; row < U.length; row += 4) sum += U[row + (at >> 2)]! * U[row + (at & 3)]!;
        return sum / K;
      });
      const exact = one.units.heads!.interactions!.flat().map((h) => h / (one.positions ?? 1));
      const error = relative(found, exact);
      assert.ok(error < 0.2, `off by ${error}`);
    });

    for (const estimator of ['gate-signs', 'output-sketch'] as const) {
      test(`interactions by ${estimator} tend to the exact ones`, async () => {
        const options = { ...model, units: ['heads'], interactions: true } as const;
        const exact = await score({ ...options, estimator: 'exact' });
        const { units } = await score({ ...options, estimator, probes: 1000, batch: 5 });
        const error = relative(units.heads!.interactions!.flat(), exact.units.heads!.interactions!.flat());
        assert.ok(error < 0.1, `off by ${error}`);
        units.heads!.interactions!.forEach((row, i) =>
          row.forEach((value, j) => assert.equal(value, units.heads!.interactions![j]![i])),
        );
      });
    }
  });
}

describe('effort', () => {
  test('exact takes products over gates where the classes are many', async () => {
    const many = await smallModel(root, { classes: 40 });
    const { units, estimator } = await score({ ...many, units: ['heads', 'neurons'], estimator: 'exact' });
    assert.deepEqual(estimator, { kind: 'exact', probes: 4, seed: 0 });
    assert.deepEqual(units.neurons!.estimator, { kind: 'exact', probes: 40, seed: 0 });
  });

  test('factors of few classes: UᵀU / K is the mean of the exact Hessian, kinds side by side', async () => {
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
  });

  test('factors of few samples have several random directions each', async () => {
    const { checkpoint, dataset } = models.language;
    const few = { dataset, indices: [0, 1, 2] };
    const { U, K } = await curvatureFactors(checkpoint, few, { kinds: ['heads'], seed: 0 }, context);
    assert.equal(K, 3 * 32);
    assert.equal(U.length, K * 4);
  });
});

/** One sample of the data, so many times over. */
function repeated<Data extends Dataset | TextDataset>(data: Data, index: number, size: number): Data {
  return { ...data, size, read: () => data.read(index) };
}

/** Σ over rows of KL(p ‖ q), and of −log q[label] where there is one. */
function lossesOf(dense: Float32Array, gated: Float32Array, labels: readonly number[]): Record<Loss, number> {
  const classes = dense.length / labels.length;
  const logSoftmax = (all: Float32Array, row: number) => {
    const z = all.subarray(row * classes, (row + 1) * classes);
    const top = Math.max(...z);
    const total = Math.log(z.reduce((sum, v) => sum + Math.exp(v - top), 0)) + top;
    return [...z].map((v) => v - total);
  };
  const sums = { kl: 0, 'cross-entropy': 0 };
  labels.forEach((label, row) => {
    const [p, q] = [logSoftmax(dense, row), logSoftmax(gated, row)];
    sums.kl += p.reduce((sum, v, c) => sum + Math.exp(v) * (v - q[c]!), 0);
    if (label >= 0) sums['cross-entropy'] -= q[label]!;
  });
  return sums;
}

describe('exact scores against central differences of the network', () => {
  for (const [name, model] of Object.entries(models)) {
    for (const kind of GATE_KINDS) {
      test(`${name}, ${kind}`, async () => {
        const network = networkOf(model.checkpoint, model.dataset);
        const count = unitsOf(network, kind).reduce((a, b) => a + b, 0);
        const step = 0.05;
        // The unpruned model, then each gate up and down.
        const variants = 1 + 2 * count;
        const { g, logits } = network.build({ batch: variants, gates: [kind], name: 'moved' });
        const session = await loadGraph(runtime, g.build([g.named('logits', logits)]), context.workDirectory);
        const moved = new Float32Array(variants * count).fill(1);
        for (let i = 0; i < count; i++) {
          moved[(1 + i) * count + i]! += step;
          moved[(1 + count + i) * count + i]! -= step;
        }
        const batches = network.batches([2], { batch: variants, labels: true });
        const { feeds } = (await batches.next()).value as SampleBatch;
        const { targets, ...inputs } = feeds;
        const labels = Array.from(targets!.data as BigInt64Array, Number).slice(0, targets!.data.length / variants);
        const gates = { type: 'float32', dims: [variants, count], data: moved } as const;
        const result = await session.run({ ...inputs, [kind]: gates });
        await session.dispose();
        const all = result['logits']!.data as Float32Array;
        const outputs = outputsOf(network);
        const at = (row: number) =>
          lossesOf(all.subarray(0, outputs), all.subarray(row * outputs, (row + 1) * outputs), labels);
        for (const loss of ['kl', 'cross-entropy'] as const) {
          const scores = await score({ ...model, units: [kind], loss, estimator: 'exact', indices: [2] });
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
  }
});

describe('scores', () => {
  const sketch = { estimator: 'output-sketch', probes: 5, seed: 7, interactions: true } as const;

  for (const [name, model] of Object.entries(models)) {
    test(`repeat bit for bit under one seed, and differ under another: ${name}`, async () => {
      const first = await score({ ...model, ...sketch });
      assert.deepEqual(await score({ ...model, ...sketch }), first);
      const other = await score({ ...model, ...sketch, seed: 8 });
      assert.notDeepEqual(other.units.masks!.curvature, first.units.masks!.curvature);
    });

    test(`are the same in any batch: ${name}`, async () => {
      const whole = await score({ ...model, ...sketch, batch: 5 });
      for (const batch of [1, 2, 3]) {
        const parts = await score({ ...model, ...sketch, batch });
        for (const kind of GATE_KINDS) {
          const [a, b] = [parts.units[kind]!, whole.units[kind]!];
          assert.ok(relative(a.curvature, b.curvature) < 1e-6, `${kind} in batches of ${batch}`);
          assert.ok(relative(a.standardError!, b.standardError!) < 1e-6, `${kind} in batches of ${batch}`);
        }
      }
    });
  }

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
    for (const [loss, positions] of [
      ['kl', 25],
      ['cross-entropy', 20],
    ] as const) {
      const text = await score({ ...models.language, units: ['heads'], loss });
      assert.deepEqual(scoresSchema.parse(JSON.parse(JSON.stringify(text))), text);
      assert.equal(text.positions, positions, 'the last position of a window has no label');
    }
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
      'text for a model of images',
      { dataset: models.language.dataset },
      /windows holds text, .* is for image-classification/,
    ],
    [
      'images for a model of text',
      { checkpoint: models.language.checkpoint },
      /tensors holds images, .* is for text-generation/,
    ],
    [
      'windows beyond the context',
      {
        ...models.language,
        dataset: windowDataset('long', [{ name: 'long', ids: new Int32Array(9) }], 9),
        indices: [0],
      },
      /9 positions, expected at most its context of 8/,
    ],
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
