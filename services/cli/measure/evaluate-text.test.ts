import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import fc from 'fast-check';
import { prune } from '../../../libs/pruning/prune.js';
import { memoryContext } from '../../../libs/pruning/testing/small-model.js';
import { writeSmallText } from '../../../libs/pruning/testing/small-text-model.js';
import { createRuntime } from '../../../libs/runtime/runtime.js';
import { evaluateText } from './evaluate-text.js';
import { slidingWindows } from './sliding-windows.js';
import { withTextVersions } from './text-session.js';

const root = await mkdtemp(join(tmpdir(), 'heartwood-evaluate-text-'));
after(() => rm(root, { recursive: true, force: true }));
const { signal } = new AbortController();
const progress = () => undefined;

test('every token but the first is scored once, after as many tokens as the stride leaves', () => {
  const lengths = fc
    .tuple(fc.integer({ min: 1, max: 200 }), fc.integer({ min: 2, max: 40 }))
    .chain(([length, window]) =>
      fc.tuple(fc.constant(length), fc.constant(window), fc.integer({ min: 1, max: window - 1 })),
    );
  fc.assert(
    fc.property(lengths, ([length, window, stride]) => {
      const scored: number[] = [];
      for (const { start, end, scored: from } of slidingWindows(length, window, stride)) {
        assert.ok(start >= 0 && end <= length && end - start <= window && from > start && from < end);
        for (let token = from; token < end; token++) {
          scored.push(token);
          assert.ok(token - start >= Math.min(token, window - stride));
        }
      }
      assert.deepEqual(
        scored,
        Array.from({ length: length - 1 }, (_, at) => at + 1),
      );
    }),
  );
});

describe('versions of a language model on text', () => {
  test('the first is itself, the pruned one is as far from it as was certified, and the stride is heeded', async () => {
    const model = await writeSmallText(root);
    const repository = join(root, 'models');
    const runtime = createRuntime({ workers: 1, threads: 1 });
    const common = {
      name: 'small',
      repository,
      policy: 'curvature',
      loss: 'kl',
      confidence: 0.95,
      window: 16,
    } as const;
    const wish = { ...model, ...common, units: [], lossBudget: 0.1, seed: 1 };
    const { manifest } = await prune(wish, memoryContext(runtime, join(root, 'work')));
    await runtime.close();
    const options = { repository, name: 'small', data: model.data, seed: 0, samples: 12, window: 16 };
    await withTextVersions(
      options,
      { signal, stderr: process.stderr },
      async ({ versions, baseline, documents, window }) => {
        const run = (stride: number) =>
          evaluateText(versions, baseline, documents, { window, stride, signal, progress });
        const [first, second] = await run(8);
        assert.equal(first!.kl, 0);
        assert.equal(first!.documents, 12);
        assert.equal(
          first!.tokens,
          documents.reduce((sum, { ids }) => sum + ids.length - 1, 0),
        );
        const { measured } = manifest.deltaLoss!;
        assert.ok(second!.kl! > measured / 3 && second!.kl! < 3 * measured, `${second!.kl}, certified ${measured}`);
        assert.ok(second!.klInterval!.low < second!.kl! && second!.kl! < second!.klInterval!.high);
        assert.ok(Math.abs(Math.log(second!.perplexity) - second!.crossEntropy) < 1e-9);
        assert.ok(second!.perplexityInterval!.low < second!.perplexity);
        assert.ok(second!.flopsSaved > 0 && second!.bytes! < first!.bytes!);
        // Another stride gives the tokens other contexts.
        const [other] = await run(15);
        assert.equal(other!.tokens, first!.tokens);
        assert.notEqual(other!.crossEntropy, first!.crossEntropy);
      },
    );
  });
});
