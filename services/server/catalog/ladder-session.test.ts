import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { readBatch } from '../../../libs/data/batch.js';
import { openDataset } from '../../../libs/data/open.js';
import { asFloat32, openCheckpoint, type Checkpoint } from '../../../libs/models/checkpoint.js';
import { readPredictors, replacedTensors } from '../../../libs/pruning/artefact.js';
import { resolveArrays, type Plan } from '../../../libs/pruning/plan.js';
import { prune } from '../../../libs/pruning/prune.js';
import { candidatesGraph, measuredGraph, tensorNames } from '../../../libs/pruning/served-graph.js';
import { interpolate } from '../../../libs/pruning/stages/budget.js';
import type { StageParameters } from '../../../libs/pruning/stages/parameters.js';
import { memoryContext } from '../../../libs/pruning/testing/small-model.js';
import { loadGraph } from '../../../libs/runtime/load-graph.js';
import { createRuntime, type Session } from '../../../libs/runtime/runtime.js';
import type { TensorValue } from '../../../libs/runtime/tensor.js';
import { ladderFlops } from '../../../libs/store/ladder-part.js';
import { imageManifest, type ImageManifest } from '../../../libs/store/manifest.js';
import { flopsAt } from '../../../libs/store/segments.js';
import { type LadderSession, loadLadder } from './ladder-session.js';

const model = fileURLToPath(new URL('../../../../models/demo-digits', import.meta.url));
const runtime = createRuntime({ threads: 2 });
let root: string;
let manifest: ImageManifest;
let directory: string;
let ladder: LadderSession;
let whole: Reference;
let pixels: Float32Array;

const images = 64;
const budgets = [0.0005, 0.005, 0.05, 0.5];

before(async () => {
  root = await mkdtemp(join(tmpdir(), 'heartwood-ladder-'));
  const published = await prune(
    {
      modelDirectory: model,
      data: 'demo:digits',
      name: 'digits',
      repository: join(root, 'models'),
      flopsSaved: 0.5,
      units: ['tokens'],
      policy: 'curvature',
      loss: 'kl',
      samples: 100,
      seed: 1,
      confidence: 0.9,
      ladder: { counts: [48, 32, 24, 12] },
    },
    memoryContext(runtime, join(root, 'work')),
  );
  manifest = imageManifest(published.manifest);
  directory = published.directory;
  ladder = await loadLadder(runtime, directory, manifest.ladder!, 1);
  whole = await openReference();
  const dataset = await openDataset('demo:digits', manifest.preprocessing, { split: 'test' });
  pixels = (await readBatch(dataset, [...Array(images).keys()])).pixels;
});
after(async () => {
  await runtime.close();
  await rm(root, { recursive: true, force: true });
});

const size = () => pixels.length / images;

function feedsOf(samples: readonly number[], budget: readonly number[]): Record<string, TensorValue> {
  const { channels, height, width } = manifest.input;
  const data = new Float32Array(samples.length * size());
  for (const [at, sample] of samples.entries())
    data.set(pixels.subarray(sample * size(), (sample + 1) * size()), at * size());
  return {
    pixel_values: { type: 'float32', dims: [samples.length, channels, height, width], data },
    budget: { type: 'float32', dims: [budget.length, 1], data: Float32Array.from(budget) },
  };
}

/** The whole graph, whose thresholds can be set, and the costs that each stage compares with them. */
interface Reference {
  readonly stages: readonly StageParameters[];
  readonly measured: Session;
  readonly candidates: readonly Session[];
  readonly thresholdsOf: (budget: number) => readonly number[];
}

async function openReference(): Promise<Reference> {
  const plan = manifest.plan as Plan;
  const checkpoint: Checkpoint = await asFloat32(await openCheckpoint(model), join(root, 'work'));
  const replaced = await replacedTensors(plan, checkpoint);
  const stages = resolveArrays(plan.tokens!.stages, await readPredictors(directory));
  const load = (graph: ReturnType<typeof measuredGraph>) => loadGraph(runtime, graph, join(root, 'work'));
  const candidates: Session[] = [];
  for (const at of stages.keys()) candidates.push(await load(candidatesGraph(checkpoint, replaced, stages, at)));
  return {
    stages,
    measured: await load(measuredGraph(checkpoint, replaced, stages)),
    candidates,
    thresholdsOf: (budget) => interpolate(plan.tokens!.table, budget),
  };
}

interface Expected {
  readonly kept: readonly number[];
  readonly logits: Float32Array;
}

/**
 * What the rungs should come to, by the whole graph: at each stage its decision at the budget, the smallest count that keeps as many, and thresholds between
 * the last merge that leads there and the next.
 */
async function expectedOf(sample: number, budget: number): Promise<Expected> {
  const { counts } = manifest.ladder!;
  const { pixel_values } = feedsOf([sample], [budget]);
  const asked = whole.thresholdsOf(budget);
  const thresholds = [...asked];
  const kept: number[] = [];
  let count = counts[0]!;
  let first = 0;
  const feeds = () => ({
    pixel_values: pixel_values!,
    thresholds: { type: 'float32', dims: [1, thresholds.length], data: Float32Array.from(thresholds) } as const,
  });
  for (const [stage, { matchings }] of whole.stages.entries()) {
    const answer = await whole.candidates[stage]!.run(feeds());
    const below = Array.from({ length: matchings }, (_, matching) => {
      const costs = answer[tensorNames.candidates(stage, matching)]!.data as Float32Array;
      const limit = Math.fround(asked[first + matching]!);
      return costs.filter((cost) => cost < limit).sort();
    });
    const wanted = count - below.reduce((sum, { length }) => sum + length, 0);
    const rung = Math.min(...counts.filter((each) => each >= wanted));
    let left = count - rung;
    for (const [matching, costs] of below.entries()) {
      if (left < costs.length)
        thresholds[first + matching] = left === 0 ? -Infinity : (costs[left - 1]! + costs[left]!) / 2;
      left -= Math.min(left, costs.length);
    }
    kept.push((count = rung));
    first += matchings;
  }
  const answer = await whole.measured.run(feeds());
  assert.deepEqual([...(answer['tokens_kept']!.data as Int32Array)], kept, 'the reference took another path');
  return { kept, logits: answer['logits']!.data as Float32Array };
}

function assertClose(actual: ArrayLike<number>, expected: ArrayLike<number>, tolerance: number, what: string): void {
  assert.equal(actual.length, expected.length, what);
  for (let at = 0; at < expected.length; at++)
    assert.ok(Math.abs(actual[at]! - expected[at]!) <= tolerance, `${what}: ${actual[at]} and ${expected[at]}`);
}

describe('a ladder', () => {
  it('takes the smallest rung that keeps what is asked for, and answers as the whole graph at these counts', async () => {
    const taken = new Set<string>();
    for (let sample = 0; sample < images; sample++) {
      const budget = budgets[sample % budgets.length]!;
      const what = `image ${sample} at ${budget} nats`;
      const { logits, tokens_kept: kept } = await ladder.run(feedsOf([sample], [budget]));
      const expected = await expectedOf(sample, budget);
      assert.deepEqual([...(kept!.data as Int32Array)], expected.kept, what);
      assertClose(logits!.data as Float32Array, expected.logits, 1e-4, what);
      taken.add(expected.kept.join());
    }
    assert.ok(taken.size >= 4, `the same path for nearly every image: ${[...taken].join(' ')}`);
  });

  it('is the dense model, but for what is gone for good, at a budget of zero', async () => {
    const none = await whole.measured.run({
      pixel_values: feedsOf([3], [0])['pixel_values']!,
      thresholds: {
        type: 'float32',
        dims: [1, 2 * whole.stages.length],
        data: new Float32Array(2 * whole.stages.length).fill(-Infinity),
      },
    });
    const { logits, tokens_kept: kept } = await ladder.run(feedsOf([3], [0]));
    assert.deepEqual(
      [...(kept!.data as Int32Array)],
      whole.stages.map(() => manifest.tokens.total),
    );
    assertClose(logits!.data as Float32Array, none['logits']!.data as Float32Array, 1e-4, 'logits');
  });

  it('answers a batch as its samples alone, each at its own budget', async () => {
    const samples = [1, 2, 3, 4];
    const together = await ladder.run(feedsOf(samples, budgets));
    const classes = manifest.labels.length;
    for (const [at, sample] of samples.entries()) {
      const alone = await ladder.run(feedsOf([sample], [budgets[at]!]), { outputs: ['logits'] });
      assert.deepEqual(Object.keys(alone), ['logits']);
      const row = (together['logits']!.data as Float32Array).subarray(at * classes, (at + 1) * classes);
      assert.deepEqual(row, alone['logits']!.data);
    }
    assert.deepEqual(together['tokens_kept']!.dims, [4, whole.stages.length]);
  });

  it('counts the FLOPs of the pieces that ran: those of the whole graph at these counts, and of the ordering', () => {
    const part = manifest.ladder!;
    for (const kept of [
      [65, 65, 65],
      [48, 32, 12],
      [24, 24, 12],
      [12, 12, 12],
    ]) {
      const ratio = ladderFlops(part, kept) / flopsAt(manifest.flops.segments, kept, manifest.tokens.total);
      assert.ok(ratio > 0.95 && ratio < 1.05, `${kept.join()}: ${ratio}`);
    }
    assert.ok(ladderFlops(part, [24, 12, 12]) < ladderFlops(part, [24, 24, 12]));
  });

  it('warms every piece up, and refuses what does not fit as the whole graph would', async () => {
    await ladder.warmUp();
    await assert.rejects(ladder.run({}), { code: 'INVALID_ARGUMENT', message: /pixel_values is missing/ });
    const { pixel_values } = feedsOf([0], [0]);
    const two: TensorValue = { type: 'float32', dims: [2, 1], data: new Float32Array(2) };
    await assert.rejects(ladder.run({ pixel_values: pixel_values!, budget: two }), { code: 'INVALID_ARGUMENT' });
  });
});
