import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { HeartwoodError } from '../errors/error.js';
import { fixtureModel, powerModel } from './fixture-model.js';
import { probeProvider } from './providers/probe.js';
import { disagreement } from './providers/agreement.js';
import { createRuntime, type ProviderFallback, type Session } from './runtime.js';
import type { TensorValue } from './tensor.js';
import { type Trial, TrialSession } from './trial-session.js';

const value = (name: string) => ({ name, type: 'float32', shape: ['M', 'N'] }) as const;
/** y = x. */
const identity = fixtureModel([{ op: 'Identity', inputs: ['x'], outputs: ['y'] }], [value('x')], [value('y')]);
/** y = x·x, which loads, and cannot run where x is not square. */
const square = fixtureModel([{ op: 'MatMul', inputs: ['x', 'x'], outputs: ['y'] }], [value('x')], [value('y')]);
const oblong = (): TensorValue => ({ type: 'float32', dims: [2, 3], data: Float32Array.of(1, 2, 3, 4, 5, 6) });

/** Skips where TensorRT can be had: its failures are what is tested. */
async function withoutTensorRt(t: TestContext): Promise<boolean> {
  const { works } = await probeProvider('tensorrt');
  if (works) t.skip('tensorrt works on this machine');
  return !works;
}

test('a session that its provider cannot load runs on the CPU, and is told of', async (t) => {
  if (!(await withoutTensorRt(t))) return;
  const told: ProviderFallback[] = [];
  const runtime = createRuntime({ threads: 1, provider: 'tensorrt', onFallback: (fallback) => told.push(fallback) });
  try {
    const session = await runtime.load(identity);
    assert.equal(session.provider, 'cpu');
    assert.deepEqual((await session.run({ x: oblong() }))['y'], oblong());
    assert.deepEqual(
      told.map(({ provider, at, model }) => [provider, at, model]),
      [['tensorrt', 'load', 'model bytes']],
    );
    assert.match(told[0]!.reason, /\S/);
    // Not the provider's fault: the CPU cannot load it either, so nothing fell back.
    await assert.rejects(runtime.load(Uint8Array.of(1, 2, 3)), { code: 'INVALID_ARGUMENT' });
    assert.equal(told.length, 1);
  } finally {
    await runtime.close();
  }
});

test('a graph with caches in place is not tried elsewhere; what is required is refused', async (t) => {
  if (!(await withoutTensorRt(t))) return;
  const told: ProviderFallback[] = [];
  const lenient = createRuntime({ threads: 1, provider: 'cuda', onFallback: (fallback) => told.push(fallback) });
  const strict = createRuntime({ threads: 1, provider: 'tensorrt', providerRequired: true });
  try {
    assert.equal((await lenient.load(identity, { inPlace: true })).provider, 'cpu');
    assert.deepEqual(
      told.map(({ at }) => at),
      ['graph'],
    );
    assert.match(told[0]!.reason, /caches are written in place/);
    const refused = { code: 'FAILED_PRECONDITION', message: /^model bytes: the required provider tensorrt [^\n]*$/ };
    await assert.rejects(strict.load(identity), refused);
    await assert.rejects(strict.load(identity, { inPlace: true }), refused);
    assert.equal((await strict.load(identity, { provider: 'cpu' })).provider, 'cpu');
  } finally {
    await Promise.all([lenient.close(), strict.close()]);
  }
});

/** A trial that is told of its failures, or of which any is a failure of the test. */
function trialOf(onCpu: () => Promise<Session>, told?: string[]): Trial {
  return {
    onCpu,
    failed: (at, reason) => void (told ? told.push(`${at}: ${reason}`) : assert.fail(`${at}: ${reason}`)),
  };
}

test('a session that loads and fails at its first run is replaced, for runs of either kind, and answers', async () => {
  const runtime = createRuntime({ threads: 1 });
  try {
    for (const kind of ['timed', 'late'] as const) {
      const told: string[] = [];
      const trial = new TrialSession(
        await runtime.load(square),
        trialOf(() => runtime.load(identity), told),
      );
      let made = 0;
      const run = () => {
        if (kind === 'timed') return trial.runTimed({ x: oblong() }, { transfer: true });
        return trial.runLate(() => (made++, { feeds: { x: oblong() }, transfer: true }));
      };
      const both = await Promise.all([run(), run()]);
      for (const { outputs } of [...both, await run()]) assert.deepEqual(outputs['y'], oblong());
      assert.equal(told.length, 1);
      assert.match(told[0]!, /^run: the run failed/);
      if (kind === 'late') assert.equal(made, 3);
      await trial.dispose();
    }
  } finally {
    await runtime.close();
  }
});

test('a provider that answers, and wrongly, is replaced at its first run', async () => {
  const runtime = createRuntime({ threads: 1 });
  try {
    const told: string[] = [];
    const x: TensorValue = { type: 'float32', dims: [2, 2], data: Float32Array.of(1, 2, 3, 4) };
    // It multiplies x by itself where it should give x.
    const wrong = new TrialSession(
      await runtime.load(square),
      trialOf(() => runtime.load(identity), told),
    );
    assert.deepEqual((await wrong.run({ x }))['y'], x);
    assert.match(told[0]!, /^answer: output y is [\d.]+ % from that of cpu/);
    // Refused: then the run is too, and so is the next.
    const strict = new TrialSession(await runtime.load(square), {
      onCpu: () => runtime.load(identity),
      failed: () => {
        throw new HeartwoodError('FAILED_PRECONDITION', 'required');
      },
    });
    for (let run = 0; run < 2; run++) await assert.rejects(strict.run({ x }), { code: 'FAILED_PRECONDITION' });
  } finally {
    await runtime.close();
  }
});

test('once a run has succeeded, a run that fails is its own affair; one that fails on the CPU too always is', async () => {
  const runtime = createRuntime({ threads: 1 });
  try {
    const make = () => runtime.load(square);
    const trial = new TrialSession(await make(), trialOf(make));
    // Not the provider's fault: the CPU cannot either.
    await assert.rejects(trial.run({ x: oblong() }), { code: 'INTERNAL' });
    const even: TensorValue = { type: 'float32', dims: [1, 1], data: Float32Array.of(3) };
    assert.deepEqual((await trial.run({ x: even }))['y']!.data, Float32Array.of(9));
    await assert.rejects(trial.run({ x: oblong() }), { code: 'INTERNAL' });
    await assert.rejects(trial.run({}), { code: 'INVALID_ARGUMENT' });
  } finally {
    await runtime.close();
  }
});

test('a first run that takes its worker process along is run again on the CPU', async () => {
  const doomed = createRuntime({ threads: 1, isolation: 'process' });
  const safe = createRuntime({ threads: 1 });
  try {
    const n = 256;
    const model = powerModel(n, 400);
    const told: string[] = [];
    const trial = new TrialSession(
      await doomed.load(model),
      trialOf(() => safe.load(model), told),
    );
    const x: TensorValue = { type: 'float32', dims: [n, n], data: new Float32Array(n * n) };
    const pid = [...doomed.processes().values()][0]!;
    // The worker has the request when this returns, and dies before it can answer it.
    process.kill(pid, 'SIGSTOP');
    const run = trial.runLate(() => ({ feeds: { x } }));
    process.kill(pid, 'SIGKILL');
    assert.equal((await run).outputs['y']!.data.length, n * n);
    assert.match(told[0]!, /killed by SIGKILL/);
  } finally {
    await Promise.all([doomed.close(), safe.close()]);
  }
});

test('rounding is agreement, a tipped decision is some, and anything else is none', () => {
  const floats = (...data: number[]): TensorValue => ({
    type: 'float32',
    dims: [data.length],
    data: Float32Array.from(data),
  });
  const kept = (count: number): TensorValue => ({ type: 'int32', dims: [1], data: Int32Array.of(count) });
  const x = floats(3, -4, Infinity);
  assert.equal(disagreement({ x }, { x }), undefined);
  assert.equal(disagreement({ x }, { x: floats(3.003, -4.003, Infinity) }), undefined);
  assert.match(disagreement({ x }, { x: floats(3.3, -4, Infinity) })!, /output x is 6\.0 %/);
  assert.equal(disagreement({ x, k: kept(4) }, { x: floats(3.3, -4, Infinity), k: kept(5) }), undefined);
  for (const bad of [floats(3, -4, 5), floats(NaN, -4, Infinity), floats(3, -4), floats(9, -4, Infinity)])
    assert.ok(disagreement({ x, k: kept(4) }, { x: bad, k: kept(5) }) !== undefined);
  assert.match(disagreement({ x, k: kept(40) }, { x, k: kept(20) })!, /output k is 50 % other than on cpu/);
});
