import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import fc from 'fast-check';
import { prune } from '../../../libs/pruning/prune.js';
import { memoryContext } from '../../../libs/pruning/testing/small-model.js';
import { writeSmallText } from '../../../libs/pruning/testing/small-text-model.js';
import { createRuntime } from '../../../libs/runtime/runtime.js';
import { compareLanes } from '../../server/comparison/comparison.js';
import { promptsOf, textLaneOf } from '../../server/serving/compare-texts.js';
import { withLocalText } from './local-text.js';
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

  test('a comparison of the same documents comes to the same KL', async () => {
    const repository = join(root, 'models');
    // Documents that fit a window: then both see the same tokens before each.
    const texts = Array.from({ length: 5 }, (_, at) => ({
      text: `the heart of oak ${at}`.slice(0, 14 + at),
      name: '',
    }));
    const data = join(root, 'short.txt');
    await writeFile(data, texts.map(({ text }) => text).join('<|endoftext|>'));
    const options = { repository, name: 'small', data, seed: 0, window: 32 };
    const evaluated = await withTextVersions(options, { signal, stderr: process.stderr }, (measured) =>
      evaluateText(measured.versions, measured.baseline, measured.documents, {
        window: 32,
        stride: 1,
        signal,
        progress,
      }),
    );
    const local = { repository, name: 'small', versions: [1, 2], warmUp: false };
    const workload = { promptTokens: 1, maxTokens: 20 };
    const { versions } = await withLocalText(local, signal, async (loaded) => {
      const lanes = loaded.map(({ source, served }) => textLaneOf(source, served, workload));
      const served = loaded.map((each) => each.served);
      const settings = { batch: 1, concurrency: 1, warmup: 0, seed: 0, confidence: 0.95 };
      return compareLanes(lanes, await promptsOf(texts, served, workload, signal), settings, { signal });
    });
    const [, second] = versions;
    assert.equal(second!.text!.predictions, evaluated[1]!.tokens);
    assert.ok(Math.abs(second!.kl! / evaluated[1]!.kl! - 1) < 1e-3, `${second!.kl} and ${evaluated[1]!.kl}`);
  });
});
