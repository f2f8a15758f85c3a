import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { prune } from '../../../libs/pruning/prune.js';
import { memoryContext, writeSmallModel } from '../../../libs/pruning/testing/small-model.js';
import { createRuntime } from '../../../libs/runtime/runtime.js';
import { ladderFlops } from '../../../libs/store/ladder-part.js';
import { type ImageManifest, imageManifest } from '../../../libs/store/manifest.js';
import type { Repository } from '../../../libs/store/repository.js';
import { flopsAt } from '../../../libs/store/segments.js';
import { type LiveServer, liveServer } from '../testing/live-server.js';
import type { LadderUse } from './ladder-session.js';

let root: string;
let manifest: ImageManifest;
before(async () => {
  root = await mkdtemp(join(tmpdir(), 'heartwood-served-ladder-'));
});
after(() => rm(root, { recursive: true, force: true }));

/** A small network with two stages and a ladder of 17, 12 and 6 tokens. */
async function publish({ directory: repository }: Repository): Promise<void> {
  const runtime = createRuntime({ workers: 1, threads: 1 });
  const model = await writeSmallModel(await mkdtemp(join(root, 'model-')));
  const wish = { lossBudget: 0.2, policy: 'curvature', loss: 'kl', seed: 1, confidence: 0.9 } as const;
  const request = { ...model, ...wish, name: 'small', repository, units: ['tokens'], ladder: { counts: [12, 6] } };
  const pruned = await prune(request, memoryContext(runtime, await mkdtemp(join(root, 'work-'))));
  manifest = imageManifest(pruned.manifest);
  await runtime.close();
}

const batch = 4;
const budget = [0, 0.02, 0.2, 2];
const values = Float32Array.from({ length: batch * 768 }, (_, at) => Math.sin(at * at * 0.013));

interface Answer {
  readonly kept: readonly number[][];
  readonly logits: Float32Array;
  readonly flops: number;
  /** As the model's configuration tells of it. */
  readonly ladder: string | undefined;
}

async function asked(server: LiveServer): Promise<Answer> {
  const { rawOutputContents } = await server.raw.modelInfer({
    modelName: 'small',
    modelVersion: '2',
    inputs: [
      { name: 'pixel_values', datatype: 'FP32', shape: [4n, 3n, 16n, 16n] },
      { name: 'budget', datatype: 'FP32', shape: [4n, 1n] },
    ],
    outputs: [{ name: 'logits' }, { name: 'tokens_kept' }],
    rawInputContents: [Buffer.from(values.buffer), Buffer.from(Float32Array.from(budget).buffer)],
  });
  const [logits, kept] = rawOutputContents.map((bytes) => Uint8Array.from(bytes).buffer);
  const stages = manifest.tokens.stages.length;
  const counts = [...new Int32Array(kept!)];
  return {
    logits: new Float32Array(logits!),
    kept: budget.map((_, row) => counts.slice(row * stages, (row + 1) * stages)),
    ladder: (await server.raw.modelConfig({ name: 'small', version: '2' })).config?.parameters['ladder']?.stringValue,
    flops: await server.metric('heartwood_inference_flops_total{model="small",version="2"}'),
  };
}

async function served(ladder: LadderUse) {
  const server = await liveServer({ ladder }, {}, undefined, undefined, publish);
  try {
    return await asked(server);
  } finally {
    await server.stop();
  }
}

test('a server on a ladder keeps rungs, no fewer tokens than the whole graph would, and counts what it ran', async () => {
  const sum = (kept: readonly (readonly number[])[], of: (row: readonly number[]) => number) =>
    kept.reduce((total, row) => total + of(row), 0);
  const [whole, climbed] = [await served('auto'), await served('on')];
  const { counts } = manifest.ladder!;
  assert.deepEqual([whole.ladder, climbed.ladder], [undefined, '17,12,6']);
  assert.deepEqual(climbed.kept[0], [17, 17]);
  assert.ok(climbed.kept.flat().some((count) => count < 17));
  for (const [row, kept] of climbed.kept.entries()) {
    for (const count of kept) assert.ok(counts.includes(count), `${count} tokens`);
    // The first stage decides the same; what comes after it decides over more tokens.
    assert.equal(kept[0], Math.min(...counts.filter((count) => count >= whole.kept[row]![0]!)));
  }
  // On the CPU `auto` serves the whole graph.
  assert.ok(whole.kept.flat().some((count) => !counts.includes(count)));
  assert.equal(
    climbed.flops,
    sum(climbed.kept, (row) => ladderFlops(manifest.ladder!, row)),
  );
  assert.equal(
    whole.flops,
    sum(whole.kept, (row) => flopsAt(manifest.flops.segments, row, 17)),
  );
  const classes = climbed.logits.length / batch;
  for (let at = 0; at < classes; at++) assert.ok(Math.abs(climbed.logits[at]! - whole.logits[at]!) < 1e-4);
});
