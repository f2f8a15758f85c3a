import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import type { ElementType } from '../onnx/ir.js';
import { fixtureModel, identityModel, powerModel } from './fixture-model.js';
import { createRuntime, type Runtime } from './runtime.js';
import type { TensorValue, TypedData } from './tensor.js';

let runtime: Runtime;
before(() => {
  runtime = createRuntime({ workers: 2, threads: 1 });
});
after(() => runtime.close());

const samples: readonly { type: ElementType; data: TypedData }[] = [
  { type: 'float32', data: Float32Array.of(1.5, -0, NaN, Infinity, 1e-40) },
  { type: 'float64', data: Float64Array.of(Math.PI, -Infinity, 5e-324, 0, 1) },
  { type: 'int64', data: BigInt64Array.of(-(2n ** 63n), 2n ** 63n - 1n, 0n, 1n, -1n) },
  { type: 'int32', data: Int32Array.of(-(2 ** 31), 2 ** 31 - 1, 0, 1, -1) },
  { type: 'int8', data: Int8Array.of(-128, 127, 0, 1, -1) },
  { type: 'uint8', data: Uint8Array.of(255, 0, 1, 2, 3) },
  { type: 'bool', data: Uint8Array.of(1, 0, 1, 1, 0) },
  { type: 'string', data: ['', 'heartwood', 'kärnved', '🌲', 'a b'] },
];

const allTypes = identityModel(samples.map(({ type }) => ({ name: type, type, shape: ['N'] })));

function rejectsWith(promise: Promise<unknown>, code: string, message: RegExp): Promise<void> {
  return assert.rejects(promise, (error: Error & { code?: string }) => {
    assert.equal(error.name, 'HeartwoodError');
    assert.equal(error.code, code, error.message);
    assert.match(error.message, message);
    return true;
  });
}

test('every element type makes the round trip bit for bit, and keeps its container', async () => {
  const session = await runtime.load(allTypes);
  assert.deepEqual(
    session.inputs.map(({ name, type, shape }) => ({ name, type, shape })),
    samples.map(({ type }) => ({ name: type, type, shape: ['N'] })),
  );
  const feeds = Object.fromEntries(samples.map(({ type, data }) => [type, { type, dims: [data.length], data }]));
  const outputs = await session.run(feeds);
  for (const { type, data } of samples) assert.deepEqual(outputs[`${type}_out`], { type, dims: [5], data });
  await session.dispose();
});

test('views of a larger buffer and empty tensors arrive as they are', async () => {
  const session = await runtime.load(identityModel([{ name: 'x', type: 'float32', shape: ['B', 'N'] }]));
  const shape = fc.record({ rows: fc.nat(4), columns: fc.nat(4), offset: fc.nat(3), transfer: fc.boolean() });
  await fc.assert(
    fc.asyncProperty(shape, async ({ rows, columns, offset, transfer }) => {
      const whole = Float32Array.from({ length: rows * columns + offset }, (_, i) => i);
      const data = whole.subarray(offset);
      const expected = Float32Array.from(data);
      const { x_out: y } = await session.run({ x: { type: 'float32', dims: [rows, columns], data } }, { transfer });
      assert.deepEqual(y, { type: 'float32', dims: [rows, columns], data: expected });
    }),
    { numRuns: 25 },
  );
  await session.dispose();
});

test('feeds stay the caller’s unless transferred', async () => {
  const session = await runtime.load(identityModel([{ name: 'x', type: 'float32', shape: [3] }]));
  const x: TensorValue = { type: 'float32', dims: [3], data: Float32Array.of(1, 2, 3) };
  await session.run({ x });
  assert.equal(x.data.length, 3);
  const { outputs, durationMs, queuedMs } = await session.runTimed({ x }, { transfer: true });
  assert.equal(x.data.length, 0);
  assert.deepEqual(outputs['x_out']?.data, Float32Array.of(1, 2, 3));
  assert.ok(durationMs > 0 && queuedMs >= 0);
  await session.dispose();
});

test('many runs at once on several sessions answer each its own', async () => {
  const sessions = await Promise.all(
    Array.from({ length: 4 }, () => runtime.load(identityModel([{ name: 'x', type: 'int32', shape: ['N'] }]))),
  );
  const answers = await Promise.all(
    Array.from({ length: 64 }, async (_, i) => {
      const session = sessions[i % sessions.length];
      const result = await session?.run({ x: { type: 'int32', dims: [1], data: Int32Array.of(i) } });
      return result?.['x_out']?.data[0];
    }),
  );
  assert.deepEqual(answers, [...answers.keys()]);
  await Promise.all(sessions.map((session) => session.dispose()));
});

test('feeds that do not fit are refused by name', async () => {
  const session = await runtime.load(identityModel([{ name: 'x', type: 'float32', shape: ['B', 2] }]));
  const data = Float32Array.of(1, 2);
  const good: TensorValue = { type: 'float32', dims: [1, 2], data };
  const refused = (feeds: Record<string, TensorValue>, message: RegExp) =>
    rejectsWith(session.run(feeds), 'INVALID_ARGUMENT', message);
  await refused({}, /input x is missing/);
  await refused({ x: good, z: good }, /unknown input z, expected x/);
  await refused({ x: { ...good, type: 'int32' } }, /input x has type int32, expected float32/);
  await refused({ x: { ...good, dims: [2] } }, /input x has shape \[2\], expected \[B, 2\]/);
  await refused({ x: { ...good, dims: [1, 3] } }, /shape/);
  await refused({ x: { ...good, dims: [2, 2] } }, /input x has 2 elements, expected 4/);
  await refused({ x: { ...good, data: Int32Array.of(1, 2) } }, /Float32Array/);
  await rejectsWith(
    session.run({ x: good }, { outputs: ['q'] }),
    'INVALID_ARGUMENT',
    /unknown output q, expected x_out/,
  );
  const pair = await runtime.load(
    identityModel([
      { name: 'x', type: 'float32', shape: ['B', 2] },
      { name: 'y', type: 'float32', shape: ['B', 1] },
    ]),
  );
  const y: TensorValue = { type: 'float32', dims: [2, 1], data };
  await rejectsWith(pair.run({ x: good, y }), 'INVALID_ARGUMENT', /input y has shape \[2, 1\], expected \[B=1, 1\]/);
  await pair.dispose();
  await session.dispose();
  await rejectsWith(session.run({ x: good }), 'FAILED_PRECONDITION', /disposed/);
});

test('a run that fails inside the graph says where, and the session lives on', async () => {
  const session = await runtime.load(squareModelOfSymbols());
  const feed = (n: number, m: number): TensorValue => ({
    type: 'float32',
    dims: [n, m],
    data: new Float32Array(n * m).fill(1),
  });
  await rejectsWith(session.run({ x: feed(2, 3) }), 'INTERNAL', /^the run failed: .*MatMul/);
  const { y } = await session.run({ x: feed(2, 2) });
  assert.equal(y?.data[0], 2);
  await session.dispose();
});

/** x·x with symbolic dims only, so that the contradiction shows inside the run. */
function squareModelOfSymbols(): Uint8Array {
  const value = (name: string, shape: string[]) => ({ name, type: 'float32', shape }) as const;
  return fixtureModel(
    [{ op: 'MatMul', inputs: ['x', 'x'], outputs: ['y'] }],
    [value('x', ['N', 'M'])],
    [value('y', ['P', 'Q'])],
  );
}

test('files that are no models are refused by name', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'heartwood-runtime-'));
  try {
    const broken = join(directory, 'broken.onnx');
    writeFileSync(broken, 'this is not protobuf');
    await rejectsWith(runtime.load(broken), 'INVALID_ARGUMENT', /broken\.onnx: not a model that the runtime can load/);
    const truncated = join(directory, 'truncated.onnx');
    writeFileSync(truncated, allTypes.subarray(0, allTypes.length / 2));
    await rejectsWith(runtime.load(truncated), 'INVALID_ARGUMENT', /truncated\.onnx/);
    await rejectsWith(runtime.load(join(directory, 'absent.onnx')), 'NOT_FOUND', /absent\.onnx: no such file/);
    await rejectsWith(runtime.load(new Uint8Array(0)), 'INVALID_ARGUMENT', /model bytes/);
    const fine = join(directory, 'fine.onnx');
    writeFileSync(fine, allTypes);
    await (await runtime.load(fine)).dispose();
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});

test('an aborted run that has not begun is dropped; one that has begun ends well; dispose waits for those queued', async () => {
  const single = createRuntime({ workers: 1, threads: 1 });
  const session = await single.load(powerModel(256, 30));
  const x: TensorValue = { type: 'float32', dims: [256, 256], data: new Float32Array(256 * 256) };
  const controller = new AbortController();
  const first = session.run({ x }, { signal: controller.signal });
  const second = session.run({ x }, { signal: controller.signal });
  const third = session.run({ x });
  const disposed = session.dispose();
  controller.abort();
  await rejectsWith(second, 'CANCELLED', /before it began/);
  await first;
  await third;
  await disposed;
  await rejectsWith(
    single.load(powerModel(2, 1)).then((s) => s.run({ x }, { signal: AbortSignal.abort() })),
    'INVALID_ARGUMENT',
    /shape/,
  );
  await single.close();
});

test('close lets the run in progress end, cancels what waits, and refuses what comes later', async () => {
  const single = createRuntime({ workers: 1, threads: 1 });
  const session = await single.load(powerModel(256, 30));
  const x: TensorValue = { type: 'float32', dims: [256, 256], data: new Float32Array(256 * 256) };
  const running = session.run({ x });
  const waiting = assert.rejects(session.run({ x }), { code: 'CANCELLED' });
  await single.close();
  assert.equal((await running)['y']?.data.length, 256 * 256);
  await waiting;
  await rejectsWith(session.run({ x }), 'UNAVAILABLE', /closed/);
  await rejectsWith(single.load(powerModel(2, 1)), 'FAILED_PRECONDITION', /closed/);
  await session.dispose();
});

test('a profile is written when the session is disposed', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'heartwood-runtime-'));
  try {
    const session = await runtime.load(powerModel(8, 2), {
      profile: join(directory, 'trace'),
      optimization: 'disabled',
    });
    await session.run({ x: { type: 'float32', dims: [8, 8], data: new Float32Array(64) } });
    await session.dispose();
    const [file] = readdirSync(directory);
    assert.match(file ?? '', /^trace/);
    assert.match(readFileSync(join(directory, file ?? ''), 'utf8'), /MatMul/);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});

test('the event loop does not wait for a run', async () => {
  const n = 768;
  const session = await runtime.load(powerModel(n, 40));
  const x: TensorValue = { type: 'float32', dims: [n, n], data: new Float32Array(n * n).fill(1e-4) };
  // A run on the loop would leave it no turn; other processes may take most turns in one round, not in all.
  const turns: number[] = [];
  for (let round = 0; round < 8 && !turns.some((count) => count >= 3); round++) {
    let count = 0;
    const timer = setInterval(() => count++, 1);
    await session.run({ x: { ...x, data: x.data.slice() } });
    clearInterval(timer);
    turns.push(count);
  }
  assert.ok(Math.max(...turns) >= 3, `turns of the loop during a run: ${turns.join(', ')}`);
  await session.dispose();
});
