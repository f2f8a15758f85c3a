import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { TensorValue } from '../../../libs/runtime/tensor.js';
import { bytesOf, canShare, joinFeeds, rowsOf, shareKey } from './batch.js';
import type { InferenceJob } from './scheduler.js';

const { signal } = new AbortController();
const jobOf = (feeds: Record<string, TensorValue>, batch: number): InferenceJob => ({
  feeds,
  batch,
  outputs: [],
  signal,
});
const tensor = (dims: number[], values: number[]): TensorValue => ({
  type: 'float32',
  dims,
  data: Float32Array.from(values),
});

test('what is joined and taken apart again is what it was, whatever the batches', () => {
  const rows = fc.array(fc.tuple(fc.float({ noNaN: true }), fc.float({ noNaN: true }), fc.string()), {
    minLength: 1,
    maxLength: 4,
  });
  fc.assert(
    fc.property(fc.array(rows, { minLength: 1, maxLength: 5 }), (calls) => {
      const jobs = calls.map((call) =>
        jobOf(
          {
            x: tensor(
              [call.length, 2],
              call.flatMap(([a, b]) => [a, b]),
            ),
            name: { type: 'string', dims: [call.length], data: call.map(([, , text]) => text) },
          },
          call.length,
        ),
      );
      const total = calls.flat().length;
      const joined = joinFeeds(jobs);
      assert.deepEqual(joined['x']!.dims, [total, 2]);
      let from = 0;
      for (const { feeds, batch } of jobs) {
        const own = rowsOf(joined, from, batch, total);
        assert.deepEqual([...(own['x']!.data as Float32Array)], [...(feeds['x']!.data as Float32Array)]);
        assert.deepEqual(own['name'], feeds['name']);
        from += batch;
      }
    }),
  );
});

test('only jobs of one shape share a run, and bytes are counted', () => {
  const small = jobOf({ x: tensor([1, 2], [1, 2]) }, 1);
  assert.equal(shareKey(small), shareKey(jobOf({ x: tensor([2, 2], [1, 2, 3, 4]) }, 2)));
  assert.notEqual(shareKey(small), shareKey(jobOf({ x: tensor([1, 1], [1]) }, 1)));
  assert.notEqual(shareKey(small), shareKey(jobOf({ y: tensor([1, 2], [1, 2]) }, 1)));
  assert.equal(bytesOf(small), 8);
});

test('a model shares runs only where the batch is the first axis of all that goes in and comes out', () => {
  const info = (shape: (number | string)[]) => ({ name: 'x', type: 'float32', shape }) as const;
  assert.ok(canShare({ inputs: [info(['B', 3])], outputs: [info(['B', 2])] }));
  assert.ok(!canShare({ inputs: [info([1, 3])], outputs: [info([1, 2])] }));
  assert.ok(!canShare({ inputs: [info(['B', 3]), info(['N'])], outputs: [info(['B', 2])] }));
  assert.ok(!canShare({ inputs: [info(['B', 3])], outputs: [info([5])] }));
});

test('outputs that do not have a row a sample are a defect, not somebody else’s answer', () => {
  assert.throws(() => rowsOf({ y: tensor([2, 1], [1, 2]) }, 0, 1, 3), {
    code: 'INTERNAL',
    message: /output y: 2 rows/,
  });
});
