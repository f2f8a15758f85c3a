import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { fromBfloat16, fromFloat16, toBfloat16, toFloat16, widenBfloat16, widenFloat16 } from './float16.js';

const every = Uint16Array.from({ length: 1 << 16 }, (_, i) => i);
const floats = fc.float({ noNaN: true });

describe('binary16', () => {
  it('has the values that IEEE 754 gives it', () => {
    const known: [number, number][] = [
      [0x0000, 0],
      [0x0001, 2 ** -24],
      [0x03ff, 1023 * 2 ** -24],
      [0x0400, 2 ** -14],
      [0x3555, 0.333251953125],
      [0x3c00, 1],
      [0x7bff, 65504],
      [0x7c00, Infinity],
      [0xc000, -2],
      [0xfc00, -Infinity],
    ];
    for (const [half, value] of known) assert.equal(fromFloat16(half), value);
    assert.ok(Object.is(fromFloat16(0x8000), -0));
    assert.ok(Number.isNaN(fromFloat16(0x7e00)) && Number.isNaN(fromFloat16(0xfc01)));
  });

  it('comes back from its float32, every one', () => {
    const widened = widenFloat16(every);
    for (const half of every) {
      const value = fromFloat16(half);
      assert.ok(Object.is(widened[half], value));
      if (Number.isNaN(value)) assert.ok(Number.isNaN(fromFloat16(toFloat16(value))));
      else assert.equal(toFloat16(value), half);
    }
  });

  it('is the nearest, the even one of two', () => {
    nearest(toFloat16, fromFloat16, 0x7c00, 65520);
    assert.equal(toFloat16(1 + 2 ** -11), 0x3c00);
    assert.equal(toFloat16(1 + 3 * 2 ** -11), 0x3c02);
    assert.equal(toFloat16(2 ** -25), 0);
    assert.equal(toFloat16(3 * 2 ** -25), 2);
    assert.equal(toFloat16(65519.99609375), 0x7bff);
    assert.equal(toFloat16(-65520), 0xfc00);
  });
});

describe('bfloat16', () => {
  it('comes back from its float32, every one', () => {
    const widened = widenBfloat16(every);
    for (const half of every) {
      const value = fromBfloat16(half);
      assert.ok(Object.is(widened[half], value));
      if (Number.isNaN(value)) assert.ok(Number.isNaN(fromBfloat16(toBfloat16(value))));
      else assert.equal(toBfloat16(value), half);
    }
    assert.equal(fromBfloat16(0x3f80), 1);
    assert.equal(fromBfloat16(0x0001), 2 ** -133);
    assert.equal(fromBfloat16(0xff80), -Infinity);
  });

  it('is the nearest, the even one of two', () => {
    nearest(toBfloat16, fromBfloat16, 0x7f80, 2 ** 128 - 2 ** 119);
    assert.equal(toBfloat16(1 + 2 ** -8), 0x3f80);
    assert.equal(toBfloat16(1 + 3 * 2 ** -8), 0x3f82);
  });
});

/** Against the neighbours: no half is closer to the float than the one chosen, and of two as close, the even one is. */
function nearest(to: (value: number) => number, from: (half: number) => number, infinity: number, overflow: number) {
  fc.assert(
    fc.property(fc.oneof(floats, floats.map((value) => value * 2 ** -100), fc.double({ min: -7e4, max: 7e4, noNaN: true })), (any) => {
      const value = Math.fround(any);
      const half = to(value);
      assert.equal(half >> 15, value < 0 || Object.is(value, -0) ? 1 : 0);
      const magnitude = half & 0x7fff;
      if (Math.abs(value) >= overflow) return assert.equal(magnitude, infinity);
      const error = Math.abs(from(magnitude) - Math.abs(value));
      for (const other of [magnitude - 1, magnitude + 1]) {
        if (other < 0 || other >= infinity) continue;
        const otherError = Math.abs(from(other) - Math.abs(value));
        assert.ok(error < otherError || (error === otherError && magnitude % 2 === 0), `${value}: ${magnitude} or ${other}`);
      }
    }),
    { numRuns: 2000 },
  );
}
