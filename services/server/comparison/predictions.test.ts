import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { compareLanes } from './comparison.js';
import type { Lane, SampleBatch, SampleSource } from './lane.js';
import type { ComparisonStep } from './measure.js';

const { signal } = new AbortController();
const usual = { batch: 1, concurrency: 1, warmup: 0, seed: 0, confidence: 0.95 };

/** Samples whose number is their content. */
interface Numbered extends SampleBatch {
  readonly samples: readonly number[];
}
const source = (size: number): SampleSource<Numbered> => ({
  size,
  labelled: false,
  read: async (samples) => Promise.resolve({ samples, size: samples.length }),
});

describe('predictions of texts', () => {
  /** Foretells, of a text with an even number, three tokens, of another one: the second version's logits are turned over at every third text. */
  const foretelling = (version: number, tokens = 2): Lane<Numbered> => ({
    version,
    policy: 'unpruned',
    answer: async () =>
      Promise.resolve({ tokens: [1], firstTokenMs: 1, nextTokenMs: 1, tokensKept: [], flops: 1, budget: undefined }),
    async *predictions({ samples }) {
      const [sample = 0] = samples;
      const row = new Float32Array(tokens);
      row[version === 2 && sample % 3 === 0 ? 1 : 0] = 2;
      yield await Promise.resolve([row]);
      if (sample % 2 === 0) yield await Promise.resolve([row, row]);
    },
  });

  it('compares what the versions foretell behind the same tokens, each prediction alike', async () => {
    const steps: string[] = [];
    const hooks = {
      signal,
      progress: ({ stage, done, total }: ComparisonStep) => steps.push(`${stage} ${done}/${total}`),
    };
    const result = await compareLanes([foretelling(1), foretelling(2)], source(60), usual, hooks);
    const [first, second] = result.versions;
    // 30 texts of three predictions and 30 of one; of each kind a third is turned over.
    assert.deepEqual([first!.text!.predictions, first!.agreement, first!.kl], [120, 1, 0]);
    const p = Math.exp(2) / (1 + Math.exp(2));
    const kl = 2 * (2 * p - 1);
    const near = (value: number, expected: number) => assert.ok(Math.abs(value / expected - 1) < 1e-6, `${value}`);
    near(second!.agreement!, 2 / 3);
    near(second!.kl!, kl / 3);
    assert.equal(second!.text!.klByPosition.length, 3);
    for (const value of second!.text!.klByPosition) near(value, kl / 3);
    assert.deepEqual(first!.text!.klByPosition, [0, 0, 0]);
    for (const measure of ['kl', 'agreement'] as const) {
      const { value, interval } = second!.differences![measure]!;
      assert.ok(interval!.low < value && value < interval!.high, measure);
    }
    assert.equal(steps.at(-1), 'predict 60/60');
    assert.deepEqual(
      await compareLanes([foretelling(1)], source(4), usual, { signal }).then(({ versions }) => versions[0]!.kl),
      null,
    );
  });

  it('refuses versions whose vocabularies differ', async () => {
    await assert.rejects(compareLanes([foretelling(1), foretelling(2, 3)], source(4), usual, { signal }), {
      code: 'INVALID_ARGUMENT',
      message: /predictions over 3 and 2 tokens/,
    });
  });
});
