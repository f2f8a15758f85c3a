import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { GraphBuilder } from '../onnx/builder.js';
import { encodeModel } from '../onnx/encode.js';
import { writtenInPlace } from '../onnx/ops/sequence.js';
import { isolations } from './carrier.js';
import { identityModel } from './fixture-model.js';
import type { ResidentMemory } from './resident.js';
import { createRuntime, type Feeds, type Into, type Runtime, type Session } from './runtime.js';
import type { TensorValue } from './tensor.js';

const heads = 2;
const width = 8;

/** Attention over a cache [B, heads, C, width] that is written where it is: what a generating model does in each block. */
function cachedAttention(): Uint8Array {
  const g = new GraphBuilder('attention');
  const [q, k, v] = ['q', 'k', 'v'].map((name) => g.input(name, 'float32', ['B', 'S', heads * width]));
  const cache = { type: 'float32', shape: ['B', heads, 'C', width] } as const;
  const pastKey = g.input('past.key', cache.type, cache.shape);
  const pastValue = g.input('past.value', cache.type, cache.shape);
  const last = g.input('last', 'int32', ['B']);
  const longest = g.input('longest', 'int32', []);
  const [y, key, value] = g.emit({
    op: 'GroupQueryAttention',
    domain: 'com.microsoft',
    inputs: [q, k, v, pastKey, pastValue, last, longest],
    attributes: { num_heads: { kind: 'int', value: heads }, kv_num_heads: { kind: 'int', value: heads } },
    outputs: [{ type: 'float32', shape: ['B', 'S', heads * width] }, cache, cache],
  });
  // A name of one's own is an Identity, which is a copy: the caches go by those that the attention gave them.
  const graph = g.build([writtenInPlace(g, last), g.named('y', y!), key!, value!]);
  return encodeModel(graph);
}

/** A number for each element that is the same at every call. */
const noise = (count: number, seed: number): Float32Array =>
  Float32Array.from({ length: count }, (_, i) => Math.sin(seed * 1000 + i * 12.9898));

const tokens = (batch: number, length: number, seed: number): TensorValue => ({
  type: 'float32',
  dims: [batch, length, heads * width],
  data: noise(batch * length * heads * width, seed),
});

for (const isolation of isolations) {
  describe(`resident tensors in a ${isolation}`, () => {
    let runtime: Runtime;
    before(() => void (runtime = createRuntime({ threads: 1, isolation })));
    after(() => runtime.close());

    test('rows are fed, written and copied where they are', async () => {
      const session = await runtime.load(identityModel([{ name: 'x', type: 'float32', shape: ['B', 2, 3] }]));
      const memory = await session.allocate({ a: { type: 'float32', dims: [4, 2, 3] } });
      assert.equal(memory.bytes, 96);
      const x: TensorValue = { type: 'float32', dims: [2, 2, 3], data: noise(12, 1) };
      assert.deepEqual(await session.run({ x }, { memory, into: { x_out: memory.view('a', 1, 2) } }), {});
      const read = async (row: number, rows: number, copies = {}): Promise<number[]> => {
        const { x_out } = await session.run({ x: memory.view('a', row, rows) }, { memory, ...copies });
        assert.deepEqual(x_out?.dims, [rows, 2, 3]);
        return [...(x_out.data as Float32Array)];
      };
      const held = [...(x.data as Float32Array)];
      const zeros = new Array<number>(6).fill(0);
      assert.deepEqual(await read(0, 4), [...zeros, ...held, ...zeros]);
      // The first two entries of the last axis, of both outer indices.
      const copy = { from: 2, to: 3, axis: 2, counts: { a: 2 } };
      const copied = await read(3, 1, { copies: [copy] });
      assert.deepEqual(copied, [held[6], held[7], 0, held[9], held[10], 0]);
      await memory.free();
      await assert.rejects(read(0, 1), { code: 'FAILED_PRECONDITION', message: /freed/ });
      await session.dispose();
    });

    test('what is bound needs no more than its rows', async () => {
      const session = await runtime.load(
        identityModel(['x', 'y'].map((name) => ({ name, type: 'float32', shape: ['B', 2] }))),
      );
      const bound = { inputs: { x: 'a' }, outputs: { y_out: 'b' } };
      const held = { type: 'float32', dims: [4, 2] } as const;
      const memory = await session.allocate({ a: held, b: held }, bound);
      const tensor = (values: readonly number[]): TensorValue => {
        return { type: 'float32', dims: [values.length / 2, 2], data: Float32Array.from(values) };
      };
      // x goes into rows of a, of which x_out is a copy; y is written into rows of b.
      const fill = await session.run(
        { x: tensor([1, 2, 3, 4, 5, 6, 7, 8]), y: tensor([0, 0, 0, 0, 0, 0, 0, 0]) },
        { memory, into: { x_out: memory.view('a', 0, 4) } },
      );
      assert.deepEqual(fill, {});
      const step = async (first: number, values: readonly number[]) => {
        const y = tensor(values);
        const rows = { first, count: values.length / 2 };
        const x_out = { type: 'float32', dims: y.dims, data: new Float32Array(values.length) } as const;
        const outputs = await session.run({ y }, { memory, rows, into: { x_out } });
        return [...(outputs['x_out']?.data as Float32Array)];
      };
      assert.deepEqual(await step(1, [10, 20, 30, 40]), [3, 4, 5, 6]);
      assert.deepEqual(await step(2, [50, 60]), [5, 6]);
      const { x_out: b } = await session.run(
        { x: memory.view('b', 0, 4), y: tensor(new Array<number>(8).fill(0)) },
        { memory },
      );
      assert.deepEqual([...(b?.data as Float32Array)], [0, 0, 10, 20, 50, 60, 0, 0]);
      await assert.rejects(step(3, [1, 2, 3, 4]), {
        code: 'INVALID_ARGUMENT',
        message: /rows 3 to 4, expected within its 4/,
      });
      const y: TensorValue = { type: 'float32', dims: [1, 2], data: new Float32Array(2) };
      await assert.rejects(session.run({ y }, { memory, rows: { first: 0, count: 1 } }), { message: /with into/ });
      const wrong = { inputs: { x: 'c' }, outputs: {} };
      await assert.rejects(session.allocate({ a: { type: 'float32', dims: [4, 2] } }, wrong), {
        message: /x is bound to c/,
      });
      await session.dispose();
    });

    test('an output goes into the tensor that is handed in', async () => {
      const session = await runtime.load(identityModel([{ name: 'x', type: 'float32', shape: ['N'] }]));
      const x: TensorValue = { type: 'float32', dims: [3], data: Float32Array.of(1, 2, 3) };
      let data = new Float32Array(3);
      for (const factor of [1, 2]) {
        const fed = { ...x, data: (x.data as Float32Array).map((value) => value * factor) };
        const { x_out } = await session.run({ x: fed }, { into: { x_out: { type: 'float32', dims: [3], data } } });
        assert.deepEqual(x_out, fed);
        // A thread has taken the buffer and given it back; a process has its own.
        assert.equal(data.length, isolation === 'thread' ? 0 : 3);
        data = x_out?.data;
      }
      await session.dispose();
    });

    test('attention token by token over caches in place is attention over the whole', async () => {
      const session = await runtime.load(cachedAttention());
      const names = session.outputs.map(({ name }) => name);
      assert.equal(names.length, 3, 'the mark is not among the outputs');
      const length = 5;
      const memory = await session.allocate({
        key: { type: 'float32', dims: [4, heads, 8, width] },
        value: { type: 'float32', dims: [4, heads, 8, width] },
      });
      const run = async (row: number, rows: number, past: number, feeds: Record<string, TensorValue>) => {
        const added = feeds['q']!.dims[1]!;
        const views = (name: string) => memory.view(name, row, rows);
        const fed: Feeds = {
          ...feeds,
          'past.key': views('key'),
          'past.value': views('value'),
          last: { type: 'int32', dims: [rows], data: new Int32Array(rows).fill(past + added - 1) },
          longest: { type: 'int32', dims: [], data: Int32Array.of(past + added) },
        };
        const into: Into = {
          [names[0]!]: { type: 'float32', dims: [rows, added, heads * width] },
          [names[1]!]: views('key'),
          [names[2]!]: views('value'),
        };
        return [...((await session.run(fed, { memory, into }))[names[0]!]!.data as Float32Array)];
      };
      const sequence = (seed: number) => ({
        q: tokens(1, length, seed),
        k: tokens(1, length, seed + 1),
        v: tokens(1, length, seed + 2),
      });
      const [first, second] = [sequence(10), sequence(20)];
      const whole = await Promise.all([run(0, 1, 0, first), run(3, 1, 0, second)]);
      const token = (feeds: Record<string, TensorValue>, at: number) =>
        Object.fromEntries(
          Object.entries(feeds).map(([name, { data }]) => {
            const size = heads * width;
            return [name, (data as Float32Array).subarray(at * size, (at + 1) * size)] as const;
          }),
        );
      for (let at = 0; at < length; at++) {
        const [a, b] = [token(first, at), token(second, at)];
        const both = Object.fromEntries(
          Object.keys(a).map((name) => [
            name,
            { type: 'float32', dims: [2, 1, heads * width], data: Float32Array.of(...a[name]!, ...b[name]!) } as const,
          ]),
        );
        const answer = await run(1, 2, at, both);
        const size = heads * width;
        const expected = whole.flatMap((values) => values.slice(at * size, (at + 1) * size));
        for (const [i, value] of answer.entries())
          assert.ok(Math.abs(value - expected[i]!) < 1e-5, `${value} ${expected[i]}`);
      }
      await session.dispose();
    });
  });
}

describe('resident memory', () => {
  let runtime: Runtime;
  let session: Session;
  let memory: ResidentMemory;
  before(async () => {
    runtime = createRuntime({ threads: 1 });
    session = await runtime.load(identityModel([{ name: 'x', type: 'float32', shape: ['B', 2] }]));
    memory = await session.allocate({ a: { type: 'float32', dims: [3, 2] } });
  });
  after(() => runtime.close());

  test('takes memory only where it is touched', async () => {
    const rss = process.memoryUsage().rss;
    const large = await session.allocate({ a: { type: 'float32', dims: [256, 1024, 1024] } });
    const grown = process.memoryUsage().rss - rss;
    assert.ok(grown < large.bytes / 8, `${grown} bytes for ${large.bytes} that nobody has touched`);
    await large.free();
  });

  test('a view or a copy that it does not have is refused by name', async () => {
    assert.throws(() => memory.view('b', 0, 1), { code: 'INVALID_ARGUMENT', message: /resident tensor b: expected a/ });
    assert.throws(() => memory.view('a', 2, 2), {
      code: 'INVALID_ARGUMENT',
      message: /rows 2 to 3, expected within its 3/,
    });
    const x = memory.view('a', 0, 1);
    const copy = (from: number, axis: number, count: number) =>
      session.run({ x }, { memory, copies: [{ from, to: 0, axis, counts: { a: count } }] });
    await assert.rejects(copy(3, 1, 1), { code: 'INVALID_ARGUMENT', message: /rows 3 and 0, expected of its 3/ });
    await assert.rejects(copy(1, 1, 3), {
      code: 'INVALID_ARGUMENT',
      message: /3 entries of axis 1, expected at most 2/,
    });
    await assert.rejects(session.run({ x }), { code: 'INVALID_ARGUMENT', message: /another memory/ });
    await assert.rejects(session.allocate({ a: { type: 'float32', dims: [0] } }), { code: 'INVALID_ARGUMENT' });
    const other = await session.allocate({ a: { type: 'float32', dims: [3, 3] } });
    await assert.rejects(session.run({ x: other.view('a', 0, 1) }, { memory: other }), {
      code: 'INVALID_ARGUMENT',
      message: /input x has shape \[1, 3\], expected \[B=1, 2\]/,
    });
  });

  test('what a run costs does not depend on how much it could hold', async () => {
    const attention = await runtime.load(cachedAttention());
    const [y, key, value] = attention.outputs.map(({ name }) => name);
    const cost = async (capacity: number): Promise<number> => {
      const cache = { type: 'float32', dims: [1, heads, capacity, width] } as const;
      const held = await attention.allocate({ key: cache, value: cache });
      const token = tokens(1, 1, 1);
      const feeds: Feeds = {
        ...{ q: token, k: token, v: token, 'past.key': held.view('key', 0, 1), 'past.value': held.view('value', 0, 1) },
        last: { type: 'int32', dims: [1], data: Int32Array.of(7) },
        longest: { type: 'int32', dims: [], data: Int32Array.of(8) },
      };
      const into: Into = {
        [y!]: { type: 'float32', dims: [1, 1, heads * width] },
        [key!]: held.view('key', 0, 1),
        [value!]: held.view('value', 0, 1),
      };
      const times: number[] = [];
      for (let i = 0; i < 15; i++) times.push((await attention.runTimed(feeds, { memory: held, into })).durationMs);
      await held.free();
      return Math.min(...times);
    };
    await cost(64);
    // 64 MiB for each cache, of which a run writes 64 bytes: a copy would take hundreds of times as long.
    const [small, large] = [await cost(64), await cost(1024 * 1024)];
    assert.ok(large < 20 * small, `${small} ms with a capacity of 64, ${large} ms with 16384 times as much`);
  });

  test('is lost with its worker, which says so, and can be had again', async () => {
    const processes = createRuntime({ threads: 1, isolation: 'process' });
    const mortal = await processes.load(identityModel([{ name: 'x', type: 'float32', shape: ['B', 2] }]));
    const lost = await mortal.allocate({ a: { type: 'float32', dims: [1, 2] } });
    const x: TensorValue = { type: 'float32', dims: [1, 2], data: Float32Array.of(1, 2) };
    await mortal.run({ x }, { memory: lost, into: { x_out: lost.view('a', 0, 1) } });
    const [pid] = processes.processes().values();
    const killed = mortal.runLate(
      () => {
        process.kill(pid!, 'SIGKILL');
        return { feeds: { x: lost.view('a', 0, 1) } };
      },
      { memory: lost },
    );
    await assert.rejects(killed, { code: 'UNAVAILABLE' });
    assert.ok(lost.lost);
    await assert.rejects(mortal.run({ x: lost.view('a', 0, 1) }, { memory: lost }), {
      code: 'UNAVAILABLE',
      message: /lost: its worker died/,
    });
    const again = await mortal.allocate({ a: { type: 'float32', dims: [1, 2] } });
    const { x_out } = await mortal.run({ x: again.view('a', 0, 1) }, { memory: again });
    assert.deepEqual(x_out?.data, new Float32Array(2));
    await processes.close();
  });
});
