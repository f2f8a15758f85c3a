import assert from 'node:assert/strict';
import { test } from 'node:test';
import { mapped } from './mapped.js';

function source(count: number) {
  const seen = { left: 0 };
  async function* numbers(): AsyncGenerator<number> {
    try {
      for (let i = 0; i < count; i++) yield await Promise.resolve(i);
    } finally {
      seen.left++;
    }
  }
  return { seen, numbers: numbers() };
}

async function all<T>(values: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const value of values) list.push(value);
  return list;
}

test('each value is changed, at once or later, in order', async () => {
  const { numbers } = source(4);
  const changed = mapped(numbers, (n) => (n % 2 === 0 ? `${n}` : Promise.resolve(`later ${n}`)));
  assert.deepEqual(await all(changed), ['0', 'later 1', '2', 'later 3']);
});

test('who leaves leaves the source', async () => {
  const { numbers, seen } = source(4);
  for await (const n of mapped(numbers, (n) => n)) if (n === 1) break;
  assert.equal(seen.left, 1);
  assert.deepEqual(await numbers.next(), { done: true, value: undefined });
});

test('what the change throws, or rejects with, is thrown and leaves the source', async () => {
  for (const fail of [
    () => {
      throw new Error('no');
    },
    () => Promise.reject(new Error('no')),
  ]) {
    const { numbers, seen } = source(4);
    await assert.rejects(all(mapped(numbers, fail)), /no/);
    assert.equal(seen.left, 1);
  }
});

test('what the source throws is thrown', async () => {
  async function* broken(): AsyncGenerator<number> {
    yield await Promise.resolve(1);
    throw new Error('broken');
  }
  const got: number[] = [];
  await assert.rejects(async () => {
    for await (const n of mapped(broken(), (n) => n + 1)) got.push(n);
  }, /broken/);
  assert.deepEqual(got, [2]);
});
