import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GraphBuilder } from '../../onnx/builder.js';
import { rotaryConstants } from './rotary.js';

class CountingBuilder extends GraphBuilder {
  constants = 0;
  override constant(...values: Parameters<GraphBuilder['constant']>) {
    this.constants++;
    return super.constant(...values);
  }
}

test('the blocks of a graph share the tables of a context, which are made once', () => {
  const g = new CountingBuilder('rotary');
  const rotary = { width: 4, base: 100 };
  const [first, second] = [rotaryConstants(g, rotary, 8, 16), rotaryConstants(g, { ...rotary }, 8, 16)];
  assert.equal(first, second);
  assert.equal(g.constants, 2);
  assert.notEqual(rotaryConstants(g, rotary, 9, 16), first);
  assert.notEqual(rotaryConstants(g, { ...rotary, base: 200 }, 8, 16).cos, first.cos);
  const { data } = g.tensorOf(first.cos)!;
  assert.ok(data.kind === 'inline');
  const cos = new Float32Array(new Uint8Array(data.bytes).buffer);
  const turns = [1, 100 ** -0.5];
  const expected = Array.from({ length: 8 }, (_, position) => [
    ...turns.map((speed) => Math.fround(Math.cos(position * speed))),
    ...[1, 1, 1, 1, 1, 1],
  ]);
  assert.deepEqual(Array.from(cos), expected.flat());
});
