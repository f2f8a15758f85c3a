import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { buildClassifier } from '../models/classifier.js';
import type { AtSeam } from '../models/tokens.js';
import { add, logSoftmax } from '../onnx/ops/index.js';
import { loadGraph } from '../runtime/load-graph.js';
import { createRuntime } from '../runtime/runtime.js';
import { seamCurvature } from './seam-curvature.js';
import { seamScores } from './seam-scores.js';
import { relative } from './testing/assertions.js';
import { smallModel } from './testing/small-models.js';
import { tensorDataset } from './testing/tensor-dataset.js';

const root = await mkdtemp(join(tmpdir(), 'heartwood-seam-'));
const runtime = createRuntime({ workers: 1, threads: 1 });
const context = { runtime, workDirectory: join(root, 'work') };
after(async () => {
  await runtime.close();
  await rm(root, { recursive: true, force: true });
});

const { checkpoint, dataset } = await smallModel(root, { layers: 3 });
const samples = { dataset, indices: [0, 1, 2, 3, 4] };
const [tokens, hidden, classes] = [5, 16, 4];
const block = 1;
const sample = 3;

/** log p of one sample, with something added to the residual stream at the seam of a block: `moves` [n · tokens, hidden]. */
async function moved(moves: Float32Array, n: number): Promise<Float32Array> {
  const atSeam: AtSeam = (g, seam) => ({
    ...seam.tokens,
    rows: add(g, seam.tokens.rows, g.input('moves', g.float, [n * tokens, hidden])),
  });
  const { g, logits } = buildClassifier(checkpoint, {
    lowering: 'canonical',
    batch: n,
    atSeams: new Map([[block, atSeam]]),
  });
  const session = await loadGraph(runtime, g.build([g.named('answer', logSoftmax(g, logits))]), context.workDirectory);
  const { pixels } = await dataset.read(sample);
  const repeated = new Float32Array(n * pixels.length);
  for (let i = 0; i < n; i++) repeated.set(pixels, i * pixels.length);
  const { answer } = await session.run({
    pixel_values: { type: 'float32', dims: [n, 3, 8, 8], data: repeated },
    moves: { type: 'float32', dims: [n * tokens, hidden], data: moves },
  });
  await session.dispose();
  return answer!.data as Float32Array;
}

const row = (data: Float32Array, i: number) => data.subarray(i * classes, (i + 1) * classes);

describe('the curvature of tokens at a seam', () => {
  test('trace and metric agree with the Fisher matrix by central differences', async () => {
    const step = 0.03;
    // By patch token and coordinate: up, then down.
    const n = 1 + 2 * (tokens - 1) * hidden;
    const moves = new Float32Array(n * tokens * hidden);
    const place = (token: number, i: number) => 1 + 2 * ((token - 1) * hidden + i);
    for (let token = 1; token < tokens; token++) {
      for (let i = 0; i < hidden; i++) {
        moves[(place(token, i) * tokens + token) * hidden + i] = step;
        moves[((place(token, i) + 1) * tokens + token) * hidden + i] = -step;
      }
    }
    const answers = await moved(moves, n);
    // F_ij = Σ_c p_c ∂_i log p_c ∂_j log p_c, the definition of the Fisher matrix
    const slope = (token: number, i: number, c: number) =>
      (row(answers, place(token, i))[c]! - row(answers, place(token, i) + 1)[c]!) / (2 * step);
    const fisher = (token: number, i: number, j: number) =>
      row(answers, 0).reduce((sum, logP, c) => sum + Math.exp(logP) * slope(token, i, c) * slope(token, j, c), 0);
    const [stage] = await seamCurvature(checkpoint, { dataset, indices: [sample] }, { blocks: [block] }, context);
    const traces: number[] = [];
    const metric = new Float64Array(hidden * hidden);
    const all = [...Array(hidden).keys()];
    for (let token = 1; token < tokens; token++) {
      const trace = all.reduce((sum, i) => sum + fisher(token, i, i), 0);
      traces.push(trace);
      for (const i of all) {
        for (const j of all) metric[i * hidden + j]! += fisher(token, i, j) / trace / (tokens - 1);
      }
    }
    assert.ok(
      relative(stage!.trace.subarray(1), traces) < 0.01,
      `trace: ${relative(stage!.trace.subarray(1), traces)}`,
    );
    assert.ok(relative(stage!.metric, metric) < 0.01, `metric: ${relative(stage!.metric, metric)}`);
    const ofMetric = all.reduce((sum, i) => sum + stage!.metric[i * hidden + i]!, 0);
    assert.ok(Math.abs(ofMetric - 1) < 1e-5, 'trace of the metric');
  });

  test('is the same in any batch, and random directions tend to it', async () => {
    const blocks = [0, 1];
    const exact = await seamCurvature(checkpoint, samples, { blocks, directions: 'exact', batch: 5 }, context);
    const parts = await seamCurvature(checkpoint, samples, { blocks, batch: 2 }, context);
    const sketch = await seamCurvature(checkpoint, samples, { blocks, directions: 32, seed: 1 }, context);
    exact.forEach((stage, i) => {
      assert.equal(stage.block, blocks[i]);
      assert.ok(relative(parts[i]!.trace, stage.trace) < 1e-5);
      assert.ok(relative(parts[i]!.metric, stage.metric) < 1e-5);
      assert.deepEqual(parts[i]!.chosen, stage.chosen);
      assert.ok(relative(parts[i]!.x, stage.x) < 1e-5);
      assert.ok(relative(sketch[i]!.trace, stage.trace) < 0.35);
      assert.ok(relative(sketch[i]!.metric, stage.metric) < 0.35);
    });
    const again = await seamCurvature(checkpoint, samples, { blocks, directions: 32, seed: 1 }, context);
    assert.deepEqual(again, sketch);
  });

  test('features: chosen patch tokens, the normed class token and the mean of the normed patch tokens', async () => {
    const [all] = await seamCurvature(checkpoint, samples, { blocks: [0] }, context);
    const [few] = await seamCurvature(checkpoint, samples, { blocks: [0], fitTokens: 2, seed: 5 }, context);
    assert.deepEqual([...all!.chosen.subarray(0, 4)], [1, 2, 3, 4]);
    assert.equal(few!.fitTokens, 2);
    const normed = (x: Float32Array) => {
      const mean = x.reduce((a, b) => a + b, 0) / hidden;
      const deviation = Math.sqrt(x.reduce((a, b) => a + (b - mean) ** 2, 0) / hidden + 1e-6);
      return x.map((v) => (v - mean) / deviation);
    };
    for (const n of samples.indices) {
      const mean = new Float32Array(hidden);
      for (let t = 0; t < 4; t++) {
        const x = all!.x.subarray((n * 4 + t) * hidden, (n * 4 + t + 1) * hidden);
        normed(x).forEach((v, i) => (mean[i]! += v / 4));
        const at = few!.chosen.subarray(2 * n, 2 * n + 2).indexOf(t + 1);
        if (at >= 0) {
          const kept = few!.x.subarray((2 * n + at) * hidden, (2 * n + at + 1) * hidden);
          assert.ok(relative(kept, x) < 1e-6);
        }
      }
      assert.ok(relative(all!.meanToken.subarray(n * hidden, (n + 1) * hidden), mean) < 1e-5);
    }
    assert.ok(new Set(few!.chosen).size > 2, 'samples keep different tokens');
  });
});

describe('published scores of tokens at a seam', () => {
  test('agree with central differences of the cross-entropy', async () => {
    const [features] = await seamCurvature(checkpoint, { dataset, indices: [sample] }, { blocks: [block] }, context);
    const step = 0.04;
    const n = 1 + 2 * (tokens - 1);
    const moves = new Float32Array(n * tokens * hidden);
    for (let token = 1; token < tokens; token++) {
      for (let i = 0; i < hidden; i++) {
        const x = features!.x[(token - 1) * hidden + i]!;
        moves[((2 * token - 1) * tokens + token) * hidden + i] = step * x;
        moves[(2 * token * tokens + token) * hidden + i] = -step * x;
      }
    }
    const answers = await moved(moves, n);
    const { label } = await dataset.read(sample);
    const loss = (i: number) => -row(answers, i)[label!]!;
    const one = { dataset, indices: [sample] };
    const [heart] = await seamScores('heart', checkpoint, one, { blocks: [block], probes: 96 }, context);
    const [taylor] = await seamScores('taylor', checkpoint, one, { blocks: [block] }, context);
    const [second, first] = [[] as number[], [] as number[]];
    for (let token = 1; token < tokens; token++) {
      second.push((loss(2 * token - 1) - 2 * loss(0) + loss(2 * token)) / step ** 2);
      first.push(Math.log(Math.abs(loss(2 * token - 1) - loss(2 * token)) / (2 * step)));
    }
    assert.ok(relative(heart!.score.subarray(1), second) < 0.2, 'heart');
    assert.ok(relative(taylor!.score.subarray(1), first) < 0.02, 'taylor');
  });
});

describe('bad requests', () => {
  test('are told', async () => {
    const refused = (message: RegExp) => ({ code: 'INVALID_ARGUMENT', message });
    await assert.rejects(
      seamCurvature(checkpoint, samples, { blocks: [3] }, context),
      refused(/blocks: 3, expected 0 to 2/),
    );
    await assert.rejects(
      seamCurvature(checkpoint, { dataset, indices: [] }, { blocks: [0] }, context),
      refused(/no samples/),
    );
    await assert.rejects(
      seamCurvature(checkpoint, samples, { blocks: [0], directions: 65 }, context),
      refused(/directions: 65, expected 1 to 64/),
    );
    const unlabelled = { dataset: tensorDataset(new Float32Array(192), undefined, 1), indices: [0] };
    await assert.rejects(
      seamScores('heart', checkpoint, unlabelled, { blocks: [0] }, context),
      refused(/has no labels/),
    );
  });
});
