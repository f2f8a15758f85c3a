import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { openCheckpoint } from '../../models/checkpoint.js';
import { buildClassifier, specOf } from '../../models/classifier.js';
import { checkpointWeights } from '../../models/weights.js';
import { countFlops } from '../../onnx/flops.js';
import { loadGraph } from '../../runtime/load-graph.js';
import { createRuntime } from '../../runtime/runtime.js';
import type { TensorValue } from '../../runtime/tensor.js';
import { servedGraph } from '../served-graph.js';
import { smallShape, writeSmallModel } from '../testing/small-model.js';
import { classifierLayout } from './layout.js';
import { removeUnits } from './remove.js';

const root = await mkdtemp(join(tmpdir(), 'heartwood-remove-'));
const runtime = createRuntime({ workers: 1, threads: 1 });
after(async () => {
  await runtime.close();
  await rm(root, { recursive: true, force: true });
});

test('removing heads and neurons is what gates of zero do, and the tensors are smaller', async () => {
  const { modelDirectory } = await writeSmallModel(root, 2);
  const checkpoint = await openCheckpoint(modelDirectory);
  const spec = specOf(checkpoint);
  const removed = { heads: [[1], [], [0, 2]], neurons: [[], [3, 5, 39], [0]] };
  const replaced = await removeUnits(checkpoint, classifierLayout(spec), removed);
  const smaller = specOf(checkpoint, checkpointWeights(checkpoint, replaced));
  assert.deepEqual(
    smaller.blocks.map(({ heads, neurons }) => [heads, neurons]),
    [
      [2, 40],
      [3, 37],
      [1, 39],
    ],
  );
  assert.deepEqual(replaced.get('vit.encoder.layer.2.attention.output.dense.weight')?.dims, [24, 8]);

  const pixels: TensorValue = {
    type: 'float32',
    dims: [2, 3, 16, 16],
    data: Float32Array.from({ length: 1536 }, (_, at) => Math.cos(at * at * 0.017)),
  };
  const gate = (units: number, gone: readonly (readonly number[])[]): TensorValue => {
    const data = new Float32Array(2 * smallShape.layers * units).fill(1);
    for (const sample of [0, 1]) {
      gone.forEach((list, block) => {
        for (const unit of list) data[(sample * smallShape.layers + block) * units + unit] = 0;
      });
    }
    return { type: 'float32', dims: [2, smallShape.layers * units], data };
  };
  const gated = buildClassifier(checkpoint, { lowering: 'canonical', gates: ['heads', 'neurons'] });
  const reference = await loadGraph(runtime, gated.g.build([gated.g.named('logits', gated.logits)]), root);
  const pruned = await loadGraph(runtime, servedGraph(checkpoint, replaced, [], undefined), root);
  const feeds = { pixel_values: pixels, heads: gate(3, removed.heads), neurons: gate(40, removed.neurons) };
  const expected = (await reference.run(feeds))['logits']!.data as Float32Array;
  const actual = (await pruned.run({ pixel_values: pixels }))['logits']!.data as Float32Array;
  expected.forEach((value, at) => assert.ok(Math.abs(value - actual[at]!) < 1e-4, `${value}, ${actual[at]}`));

  const flops = (tensors: typeof replaced) =>
    countFlops(servedGraph(checkpoint, tensors, [], undefined), { B: 1 }).total;
  assert.ok(flops(replaced) < flops(new Map()));
});
