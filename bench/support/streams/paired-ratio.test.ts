import assert from 'node:assert/strict';
import test from 'node:test';
import { inPairs, pairedRatio } from './paired-ratio.js';

test('the interval of a median is of the ranks that a table of the sign test has', () => {
  const upTo = (n: number) => Array.from({ length: n }, (_, i) => i + 1);
  // 95 % intervals of the median by order statistics: of 10 the 2nd and 9th, of 20 the 6th and 15th, of 30 the 10th and 21st.
  for (const [n, low, high] of [
    [10, 2, 9],
    [20, 6, 15],
    [30, 10, 21],
  ] as const) {
    const { ratio, ...found } = pairedRatio(upTo(n).reverse());
    assert.equal(ratio, (n + 1) / 2);
    assert.deepEqual([found.low, found.high], [low, high], `${n}`);
  }
  assert.deepEqual([pairedRatio([3]).low, pairedRatio([3, 1]).high], [3, 3]);
});

test('pairs turn round, and the first is not counted', async () => {
  const order: string[] = [];
  const of = (name: string) => () => {
    order.push(name);
    return Promise.resolve(order.length);
  };
  const taken = await inPairs(3, of('a'), of('b'));
  assert.equal(order.join(''), 'abbaabba');
  assert.deepEqual(taken, [
    { a: 4, b: 3 },
    { a: 5, b: 6 },
    { a: 8, b: 7 },
  ]);
});
