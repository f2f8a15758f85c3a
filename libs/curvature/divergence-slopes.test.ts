import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import type { Dataset } from '../data/dataset.js';
import type { TextDataset } from '../data/text/dataset.js';
import type { Checkpoint } from '../models/checkpoint.js';
import { unitsOf } from '../models/gates.js';
import { loadGraph } from '../runtime/load-graph.js';
import { createRuntime } from '../runtime/runtime.js';
import { divergenceSlopes } from './divergence-slopes.js';
import { networkOf } from './networks.js';
import { smallLanguageModel, smallModel } from './testing/small-models.js';

const root = await mkdtemp(join(tmpdir(), 'heartwood-divergence-'));
const runtime = createRuntime({ workers: 1, threads: 1 });
const context = { runtime, workDirectory: join(root, 'work') };
after(async () => {
  await runtime.close();
  await rm(root, { recursive: true, force: true });
});
const kinds = ['heads', 'neurons'] as const;
const indices = [0, 1, 2, 3, 4];

/** Mean KL of a row of logits at any gates, in double precision from the logits on. */
async function divergence(checkpoint: Checkpoint, dataset: Dataset | TextDataset) {
  const network = networkOf(checkpoint, dataset);
  const counts = kinds.map((kind) => unitsOf(network, kind).reduce((a, b) => a + b, 0));
  const batch = indices.length;
  const { g, logits } = network.build({ batch, gates: kinds, name: 'logits' });
  const session = await loadGraph(runtime, g.build([g.named('logits', logits)]), context.workDirectory);
  const classes = network.logits.at(-1)!;
  const answer = async (gates: Float32Array) => {
    const feeds = Object.fromEntries(
      kinds.map((kind, at) => {
        const first = at === 0 ? 0 : counts[0]!;
        const data = new Float32Array(batch * counts[at]!);
        for (let i = 0; i < data.length; i++) data[i] = gates[first + (i % counts[at]!)]!;
        return [kind, { type: 'float32' as const, dims: [batch, counts[at]!], data }];
      }),
    );
    for await (const part of network.batches(indices, { batch, labels: false })) {
      const { logits: found } = await session.run({ ...part.feeds, ...feeds });
      const data = found!.data as Float32Array;
      return Array.from({ length: data.length / classes }, (_, row) => {
        const z = Array.from(data.subarray(row * classes, (row + 1) * classes));
        const shift = Math.log(z.reduce((sum, value) => sum + Math.exp(value), 0));
        return z.map((value) => value - shift);
      });
    }
    throw new Error('there are samples');
  };
  const ones = new Float32Array(counts[0]! + counts[1]!).fill(1);
  const unpruned = await answer(ones);
  return {
    width: ones.length,
    dispose: () => session.dispose(),
    async at(gates: Float32Array) {
      const pruned = await answer(gates);
      const each = unpruned.map((p, row) =>
        p.reduce((sum, logP, c) => sum + Math.exp(logP) * (logP - pruned[row]![c]!), 0),
      );
      return each.reduce((a, b) => a + b, 0) / each.length;
    },
  };
}

for (const [name, open] of [
  ['images', smallModel],
  ['text', smallLanguageModel],
] as const) {
  describe(`loss and slopes where units are gone, ${name}`, async () => {
    const { checkpoint, dataset } = await open(root);
    const samples = { dataset, indices };

    test('are those of the KL, by differences of it', async () => {
      const truth = await divergence(checkpoint, dataset);
      for (const removed of [[1], [0, 5, 9, 20]]) {
        const { loss, slopes } = await divergenceSlopes(checkpoint, samples, { kinds, removed }, context);
        const gates = new Float32Array(truth.width).fill(1);
        for (const column of removed) gates[column] = 0;
        const expected = await truth.at(gates);
        assert.ok(Math.abs(loss - expected) < 1e-6 + 1e-3 * expected, `${loss}, directly ${expected}`);
        const largest = Math.max(...slopes.map(Math.abs));
        assert.equal(slopes.length, truth.width);
        for (const column of [...removed, 2, 3, 10, truth.width - 1]) {
          const at = async (by: number) => {
            const moved = gates.slice();
            moved[column]! += by;
            return truth.at(moved);
          };
          const difference = ((await at(0.05)) - (await at(-0.05))) / 0.1;
          const off = Math.abs(difference - slopes[column]!);
          assert.ok(off < 0.02 * largest, `gate ${column}: ${slopes[column]}, by differences ${difference}`);
        }
      }
      await truth.dispose();
    });

    test('are nothing where nothing is gone, and the same in shards', async () => {
      const { loss, slopes } = await divergenceSlopes(checkpoint, samples, { kinds, removed: [] }, context);
      assert.ok(Math.abs(loss) < 1e-6);
      assert.ok(slopes.every((slope) => Math.abs(slope) < 1e-6));
      const whole = await divergenceSlopes(checkpoint, samples, { kinds, removed: [3, 7] }, context);
      const shards = { samples: 2 };
      const parts = await divergenceSlopes(checkpoint, samples, { kinds, removed: [3, 7] }, { ...context, shards });
      assert.ok(Math.abs(parts.loss - whole.loss) < 1e-6);
      whole.slopes.forEach((slope, at) => assert.ok(Math.abs(slope - parts.slopes[at]!) < 1e-6));
    });
  });
}

test('slopes of no samples are refused', async () => {
  const { checkpoint, dataset } = await smallModel(root);
  await assert.rejects(
    divergenceSlopes(checkpoint, { dataset, indices: [] }, { kinds, removed: [] }, context),
    /no samples/,
  );
});
