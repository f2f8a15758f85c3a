import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { windowDataset } from '../data/text/dataset.js';
import { buildCausalLm } from '../models/causal-lm.js';
import { openCheckpoint } from '../models/checkpoint.js';
import { dequantise, quantise } from '../models/quantisation/quantise.js';
import { readTensor } from '../models/safetensors.js';
import { writeRandomCausalLm } from '../models/testing/random-causal.js';
import { checkpointWeights } from '../models/weights.js';
import type { Tensor } from '../onnx/ir.js';
import { floatTensor } from '../onnx/tensor.js';
import { loadGraph } from '../runtime/load-graph.js';
import { createRuntime } from '../runtime/runtime.js';
import { bitMoves } from './bits.js';
import { curvatureFactors } from './factors.js';
import { moveGroups, type MatrixMove } from './matrix-moves.js';
import { scoreCheckpoint, type ScoreOptions } from './score.js';
import { scoresSchema } from './scores.js';
import { assertUnbiased, relative } from './testing/assertions.js';

const root = await mkdtemp(join(tmpdir(), 'heartwood-bits-'));
const runtime = createRuntime({ workers: 1, threads: 1 });
const context = { runtime, workDirectory: join(root, 'work') };
after(async () => {
  await runtime.close();
  await rm(root, { recursive: true, force: true });
});

const shape = { hidden: 32, layers: 2, heads: 2, intermediate: 48, vocabulary: 10, context: 8, seed: 5 };
// Few logits a sample, so that factors have a direction for every one, and no error of sampling.
const [positions, samples, heads] = [3, 4, 4];
const documents = Array.from({ length: samples }, (_, d) => ({
  name: `document ${d}`,
  ids: Int32Array.from({ length: positions }, (_, i) => (7 * d + 3 * i * i + d * i) % shape.vocabulary),
}));
const dataset = windowDataset('windows', documents, positions);
const indices = [...Array(samples).keys()];

for (const tied of [false, true]) {
  describe(`bits of matrices, ${tied ? 'tied' : 'untied'} embeddings`, async () => {
    const folder = await writeRandomCausalLm(join(root, tied ? 'tied' : 'untied'), { ...shape, tied });
    const checkpoint = await openCheckpoint(folder);
    const score = (options: Partial<ScoreOptions> = {}) =>
      scoreCheckpoint({ checkpoint, dataset, indices, units: ['bits'], ...options }, context);
    const moves = await bitMoves(checkpoint, context.workDirectory);

    /** log p of every position, with some matrices quantised and gates on the heads. */
    async function answers(moved: readonly MatrixMove[], gates?: Float32Array): Promise<Float32Array> {
      const replaced = new Map<string, Tensor>();
      for (const { matrix, bits } of moved) {
        const location = checkpoint.tensors.get(matrix)!;
        const [rows, columns] = location.shape as [number, number];
        const values = dequantise(quantise(await readTensor(location), rows, columns, bits));
        replaced.set(matrix, floatTensor('float32', [rows, columns], values));
      }
      const { g, logits } = buildCausalLm(checkpoint, {
        lowering: 'canonical',
        positions,
        batch: samples,
        gates: ['heads'],
        weights: () => checkpointWeights(checkpoint, replaced),
      });
      const session = await loadGraph(runtime, g.build([g.named('logits', logits)]), context.workDirectory);
      const ids = BigInt64Array.from(
        documents.flatMap((document) => [...document.ids]),
        BigInt,
      );
      const ones = new Float32Array(samples * heads);
      for (let at = 0; at < ones.length; at++) ones[at] = gates?.[at % heads] ?? 1;
      const result = await session.run({
        input_ids: { type: 'int64', dims: [samples, positions], data: ids },
        heads: { type: 'float32', dims: [samples, heads], data: ones },
      });
      await session.dispose();
      return result['logits']!.data as Float32Array;
    }

    const dense = await answers([]);
    /** Σ KL(dense ‖ moved) over all positions, nats. */
    async function loss(moved: readonly MatrixMove[], gates?: Float32Array): Promise<number> {
      const other = await answers(moved, gates);
      let sum = 0;
      for (let at = 0; at < dense.length; at += shape.vocabulary) {
        const [p, q] = [dense, other].map((all) => logSoftmax(all.subarray(at, at + shape.vocabulary)));
        sum += p!.reduce((total, value, c) => total + Math.exp(value) * (value - q![c]!), 0);
      }
      return sum;
    }

    test('½h foretells the measured KL of quantising one matrix', async () => {
      const { units } = await score({ estimator: 'exact' });
      const { curvature, shape: found, matrices } = units.bits!;
      assert.deepEqual(found, [matrices!.length, 2]);
      assert.equal(moves.length, curvature.length);
      const measured: number[] = [];
      for (const move of moves) measured.push(await loss([move]));
      const ratios = measured.map((kl, at) => kl / (curvature[at]! / 2));
      moves.forEach(({ bits, matrix }, at) => {
        const slack = bits === 8 ? 0.02 : 0.15;
        assert.ok(
          Math.abs(ratios[at]! - 1) < slack,
          `${matrix}, ${bits} bits: measured ${ratios[at]} times what was foretold`,
        );
      });
      for (const width of [0, 1]) {
        const of = (list: readonly number[]) => list.filter((_, at) => at % 2 === width);
        const order = rankCorrelation(of(measured), of([...curvature]));
        assert.ok(order > 0.9, `rank correlation ${order}`);
      }
    });

    test('factors: bits and heads together, with their interactions', async () => {
      const data = { dataset, indices };
      const { U, K, columns } = await curvatureFactors(checkpoint, data, { kinds: ['heads'], moves, seed: 0 }, context);
      assert.deepEqual(columns, [
        { kind: 'heads', gates: heads },
        { kind: 'bits', gates: moves.length },
      ]);
      const width = heads + moves.length;
      const entry = (i: number, j: number) => {
        let sum = 0;
        for (let row = 0; row < U.length; row += width) sum += U[row + i]! * U[row + j]!;
        // Of the mean over positions, as a sum.
        return (sum / K) * samples * positions;
      };
      const { units } = await score({ estimator: 'exact' });
      const diagonal = moves.map((_, at) => entry(heads + at, heads + at));
      assert.ok(relative(diagonal, units.bits!.curvature) < 1e-4);
      // KL(both) − KL(one) − KL(other) = the mixed term, the head taken by a fifth.
      const share = 0.2;
      const [foretold, measured]: number[][] = [[], []];
      const chosen = moves.flatMap((move, at) => (move.bits === 4 ? [{ move, at }] : []));
      for (const head of [0, 3]) {
        const gates = Float32Array.from({ length: heads }, (_, i) => (i === head ? 1 - share : 1));
        const alone = await loss([], gates);
        for (const { move, at } of chosen) {
          foretold!.push(share * entry(head, heads + at));
          measured!.push((await loss([move], gates)) - (await loss([move])) - alone);
        }
      }
      const cosine = dot(foretold!, measured!) / Math.sqrt(dot(foretold!, foretold!) * dot(measured!, measured!));
      assert.ok(cosine > 0.9, `mixed terms agree to ${cosine}`);
      const all = chosen.map(({ at }) => heads + at);
      const sum = all.reduce((total, i) => total + all.reduce((row, j) => row + entry(i, j), 0), 0) / 2;
      const together = (await loss(chosen.map(({ move }) => move))) / sum;
      assert.ok(together > 0.6 && together < 1.6, `all at 4 bits: measured ${together} times what was foretold`);
    });

    if (tied) return;

    test('the output sketch has no bias over 30 seeds, and repeats bit for bit', async () => {
      const exact = await score({ estimator: 'exact' });
      const runs = [];
      for (let seed = 0; seed < 30; seed++) runs.push(await score({ estimator: 'output-sketch', probes: 4, seed }));
      const estimates = runs.map(({ units }) => ({
        curvature: units.bits!.curvature,
        standardError: units.bits!.standardError!,
      }));
      assertUnbiased(estimates, exact.units.bits!.curvature, 'bits');
      const again = await score({ estimator: 'output-sketch', probes: 4, seed: 3 });
      assert.deepEqual(again, runs[3]);
      assert.deepEqual(scoresSchema.parse(JSON.parse(JSON.stringify(again))), again);
    });

    test('groups of matrices are whole, in order, and within what a run may hold', () => {
      // A row of the largest matrix at 2^20 rows is 4 MiB.
      const rows = 2 ** 20;
      const groups = moveGroups(moves, rows);
      assert.ok(groups.length > 1);
      assert.deepEqual(groups.flat(), moves);
      for (const group of groups) {
        const bytes = group.reduce((sum, { by }) => sum + 4 * rows * by.dims[0]!, 0);
        assert.ok(bytes <= 512 * 2 ** 20 || group.length === 1);
      }
      assert.deepEqual(moveGroups(moves, 1), [moves]);
    });

    test('bad requests', async () => {
      const cases: [Partial<ScoreOptions>, RegExp][] = [
        [{ loss: 'cross-entropy' }, /units: bits are scored by the loss kl alone/],
        [{ estimator: 'gate-signs' }, /units: bits are scored by exact or output-sketch/],
      ];
      for (const [options, message] of cases)
        await assert.rejects(score(options), { code: 'INVALID_ARGUMENT', message });
    });
  });
}

function logSoftmax(z: Float32Array): number[] {
  const top = Math.max(...z);
  const total = Math.log(z.reduce((sum, v) => sum + Math.exp(v - top), 0)) + top;
  return [...z].map((v) => v - total);
}

const dot = (a: readonly number[], b: readonly number[]) => a.reduce((sum, value, i) => sum + value * b[i]!, 0);

/** Spearman's, where no two values are the same. */
function rankCorrelation(a: readonly number[], b: readonly number[]): number {
  const ranks = (list: readonly number[]) => list.map((value) => list.filter((other) => other < value).length);
  const [x, y] = [ranks(a), ranks(b)];
  const n = a.length;
  const squares = x.reduce((sum, rank, i) => sum + (rank - y[i]!) ** 2, 0);
  return 1 - (6 * squares) / (n * (n ** 2 - 1));
}
