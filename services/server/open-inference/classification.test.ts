import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { classify, sixDecimals } from './classification.js';

const floats = (dims: number[], ...values: number[]) =>
  ({ type: 'float32', dims, data: Float32Array.from(values) }) as const;

test('the greatest of each sample, greatest first, with their labels', () => {
  const labels = ['red', 'green', 'blue'];
  const answer = classify('logits', floats([2, 3], 0.25, 3, -1, 7, 7, 8.5), 2, labels);
  assert.deepEqual(answer, {
    type: 'string',
    dims: [2, 2],
    data: ['3.000000:1:green', '0.250000:0:red', '8.500000:2:blue', '7.000000:0:red'],
  });
});

test('no more than there are; without labels, or where they end, none; colons in a label stay', () => {
  assert.deepEqual(classify('x', floats([1, 2], 1, 2), 10, []), {
    type: 'string',
    dims: [1, 2],
    data: ['2.000000:1', '1.000000:0'],
  });
  assert.deepEqual(classify('x', floats([1, 2], 1, 2), 2, ['a:b']).data, ['2.000000:1', '1.000000:0:a:b']);
});

test('whole numbers stay whole, a vector is a batch, a scalar has none, further dimensions are one', () => {
  const whole = { type: 'int64', dims: [1, 3], data: BigInt64Array.of(-5n, 2n ** 60n, 7n) } as const;
  assert.deepEqual(classify('x', whole, 2, []).data, ['1152921504606846976:1', '7:2']);
  assert.deepEqual(classify('x', floats([2], 1, 2), 1, []), {
    type: 'string',
    dims: [2, 1],
    data: ['1.000000:0', '2.000000:0'],
  });
  assert.deepEqual(classify('x', floats([], 1), 1, []), { type: 'string', dims: [1], data: ['1.000000:0'] });
  assert.deepEqual(classify('x', floats([1, 2, 2], 1, 4, 3, 2), 2, []).data, ['4.000000:1', '3.000000:2']);
  assert.deepEqual(classify('x', floats([1, 3], NaN, 1, Infinity), 3, []).data, ['inf:2', '1.000000:1', 'nan:0']);
  assert.throws(() => classify('x', { type: 'string', dims: [1], data: ['a'] }, 1, []), {
    code: 'INVALID_ARGUMENT',
    message: /output x: parameter classification/,
  });
});

test('six decimals as C writes them', () => {
  const cases: [number, string][] = [
    [0, '0.000000'],
    [-0, '-0.000000'],
    [0.1, '0.100000'],
    [-1e-9, '-0.000000'],
    // Ties go to the even digit: 0.0078125 and 0.0234375, whose seventh decimal is the last.
    [1 / 128, '0.007812'],
    [3 / 128, '0.023438'],
    [-1 / 128, '-0.007812'],
    [1e22, '10000000000000000000000.000000'],
    [2 ** 53, '9007199254740992.000000'],
    [Math.fround(3.4028235e38), '340282346638528859811704183484516925440.000000'],
    [-Infinity, '-inf'],
  ];
  for (const [value, text] of cases) assert.equal(sixDecimals(value), text);
  fc.assert(
    fc.property(fc.float({ noNaN: true, noDefaultInfinity: true }), (value) => {
      const text = sixDecimals(value);
      assert.match(text, /^-?\d+\.\d{6}$/);
      // Half of the last digit, and the rounding of this line's own arithmetic.
      assert.ok(Math.abs(Number(text) - value) <= 0.5000001e-6 + Math.abs(value) * 1e-15);
    }),
  );
});
