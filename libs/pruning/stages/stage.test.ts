import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { randomFor } from '../../data/random.js';
import { createRuntime, type Runtime } from '../../runtime/runtime.js';
import { loadStage, type SampleResult } from './testing/harness.js';
import { referenceStage, type ReferenceResult, type Sample } from './testing/reference.js';
import { policies, randomParameters, randomSample, thresholdsAt } from './testing/samples.js';

const width = 12;
const heads = 3;
const full = 17;
let runtime: Runtime;
before(() => {
  runtime = createRuntime({ threads: 2 });
});
after(() => runtime.close());

const shapeOf = (packed: boolean, special = 1) => ({ width, heads, special, tokens: packed ? undefined : full });

function samplesOf(seed: number, counts: readonly number[], packed: boolean, special = 1): Sample[] {
  return counts.map((count, b) => randomSample(randomFor(seed, b), packed ? count : full, width, special, packed));
}

function close(actual: readonly number[], expected: readonly number[], what: string, tolerance = 1e-5): void {
  assert.equal(actual.length, expected.length, what);
  for (const [i, value] of expected.entries()) {
    const error = value === actual[i] ? 0 : Math.abs(actual[i]! - value) / Math.max(1, Math.abs(value));
    assert.ok(error <= tolerance, `${what}[${i}] is ${actual[i]}, expected ${value}`);
  }
}

function same(actual: SampleResult, expected: ReferenceResult | SampleResult, what: string): void {
  assert.deepEqual(actual.groups, expected.groups, `${what}: groups`);
  close(actual.mass, expected.mass, `${what}: mass`);
  close(actual.x.flat(), expected.x.flat(), `${what}: x`);
  close([actual.summedCost], [expected.summedCost], `${what}: summed cost`, 1e-4);
  for (const [r, list] of expected.candidates.entries()) {
    const found = actual.candidates[r]!;
    const finite = list.slice(0, found.length);
    close(found.slice(0, finite.length), finite, `${what}: candidates ${r}`, 1e-4);
    assert.ok(
      found.slice(finite.length).every((c) => c === Infinity),
      `${what}: candidates ${r} where no token is`,
    );
  }
}

for (const policy of policies) {
  for (const selection of ['value', 'rank'] as const) {
    for (const matchings of policy === 'curvature' || policy === 'tome' ? [1, 2] : [1]) {
      test(`${policy} by ${selection}, ${matchings} matchings: the graph is the reference, alone and in a batch`, async () => {
        const parameters = randomParameters(policy, width, { selection, matchings });
        for (const packed of [false, true]) {
          for (const special of [1, 2]) {
            const shape = shapeOf(packed, special);
            const stage = await loadStage(runtime, parameters, shape);
            const samples = samplesOf(special, [17, 6, 11, 5, 14], packed, special);
            const thresholds = samples.map((s, b) => thresholdsAt(s, parameters, shape, [0.5, 0.7, 0, 1, 0.3][b]!));
            const batch = await stage.run(samples, thresholds);
            for (const [b, sample] of samples.entries()) {
              const what = `sample ${b}, ${packed ? 'packed' : 'uniform'}, ${special} special`;
              same(batch[b]!, referenceStage(sample, parameters, thresholds[b]!, shape), what);
              const [alone] = await stage.run([sample], [thresholds[b]!]);
              same(alone!, batch[b]!, `${what}, alone`);
            }
            await stage.session.dispose();
          }
        }
      });
    }
  }
}

for (const policy of policies) {
  test(`${policy}: a threshold of −∞ keeps every token bit for bit, +∞ leaves the least that must stay`, async () => {
    const parameters = randomParameters(policy, width, policy === 'curvature' ? {} : { selection: 'value' });
    for (const packed of [false, true]) {
      const stage = await loadStage(runtime, parameters, shapeOf(packed));
      const samples = samplesOf(8, [17, 4, 9, 5, 7, 3], packed);
      const limits = (value: number) => samples.map(() => Array<number>(parameters.matchings).fill(value));
      for (const [b, result] of (await stage.run(samples, limits(-Infinity))).entries()) {
        const { x, mass } = samples[b]!;
        assert.deepEqual(result.x, x);
        assert.deepEqual(result.mass, mass);
        assert.deepEqual(result.groups, [...x.keys()]);
        assert.equal(result.summedCost, 0);
      }
      // Stage after stage, as many as it takes: never below four.
      let left = await stage.run(samples, limits(Infinity));
      for (const [b, result] of left.entries()) {
        assert.ok(result.kept >= Math.min(4, samples[b]!.x.length), `${result.kept} tokens are left`);
        assert.ok(result.x.flat().every(Number.isFinite));
      }
      const next = await loadStage(runtime, parameters, shapeOf(true));
      for (let step = 0; step < 4; step++) {
        const entering = left.map((r, b) => ({
          ...samples[b]!,
          ...r,
          queries: samples[b]!.queries.slice(0, r.kept),
          keys: samples[b]!.keys.slice(0, r.kept),
        }));
        left = await next.run(entering, limits(Infinity));
      }
      assert.deepEqual(
        left.map((r) => r.kept),
        samples.map((s) => Math.min(4, s.x.length)),
      );
      await stage.session.dispose();
      await next.session.dispose();
    }
  });
}

test('three stages in one graph are three stages one after another', async () => {
  for (const policy of ['curvature', 'tome', 'magnitude', 'attention'] as const) {
    const stages = [0, 1, 3].map((block) => ({ ...randomParameters(policy, width, {}, block), block }));
    const shape = shapeOf(false);
    const chain = await loadStage(runtime, stages, shape);
    const samples = samplesOf(12, [full, full, full, full], false);
    const limits = samples.map((): number[] => []);
    const expected = samples.map((sample, b) =>
      stages.reduce((current: Sample, stage) => {
        const thresholds = thresholdsAt(current, stage, shape, [0.6, 0.2, 0, 1][b]!);
        limits[b]!.push(...thresholds);
        const { x, mass } = referenceStage(current, stage, thresholds, shape);
        return { x, mass, queries: x, keys: x };
      }, sample),
    );
    const batch = await chain.run(samples, limits);
    assert.ok(new Set(batch.map((r) => r.kept)).size > 2, 'the samples keep different counts');
    for (const [b, { x, mass }] of expected.entries()) {
      close(batch[b]!.mass, mass, `${policy}: mass of sample ${b}`);
      close(batch[b]!.x.flat(), x.flat(), `${policy}: x of sample ${b}`);
      const [alone] = await chain.run([samples[b]!], [limits[b]!]);
      close(alone!.x.flat(), batch[b]!.x.flat(), `${policy}: sample ${b} alone`);
    }
    await chain.session.dispose();
  }
});

test('merging keeps the mass, and the mass-weighted mean of the tokens', async () => {
  for (const policy of ['curvature', 'tome'] as const) {
    const stage = await loadStage(runtime, randomParameters(policy, width, { selection: 'rank' }), shapeOf(true));
    const cases = fc.record({
      seed: fc.nat(1e6),
      counts: fc.array(fc.integer({ min: 3, max: 40 }), { minLength: 1, maxLength: 5 }),
      limits: fc.tuple(fc.double({ min: 0, max: 0.6, noNaN: true }), fc.double({ min: 0, max: 0.6, noNaN: true })),
    });
    const check = async ({ seed, counts, limits }: { seed: number; counts: number[]; limits: [number, number] }) => {
      const samples = samplesOf(seed, counts, true);
      const results = await stage.run(
        samples,
        samples.map(() => limits),
      );
      const moment = (x: readonly (readonly number[])[], mass: readonly number[]) =>
        x[0]!.map((_, d) => x.reduce((sum, row, i) => sum + mass[i]! * row[d]!, 0));
      for (const [b, { x, mass, groups, kept }] of results.entries()) {
        const sample = samples[b]!;
        const total = (m: readonly number[]) => m.reduce((p, q) => p + q, 0);
        assert.equal(total(mass), total(sample.mass));
        close(moment(x, mass), moment(sample.x, sample.mass), 'the first moment', 2e-5);
        assert.deepEqual(
          [...new Set(groups)].sort((p, q) => p - q),
          [...Array(kept).keys()],
        );
        assert.equal(groups[0], 0);
      }
    };
    await fc.assert(fc.asyncProperty(cases, check), { numRuns: 30 });
    await stage.session.dispose();
  }
});

test('a threshold on ranks takes round(ρ · tokens) of every sample', async () => {
  for (const policy of policies) {
    const parameters = randomParameters(policy, width, { selection: 'rank', matchings: 1 });
    const stage = await loadStage(runtime, parameters, shapeOf(true));
    const counts = [16, 20, 33, 40, 24];
    const samples = samplesOf(4, counts, true);
    // Ties count too: the last sample's tokens are all alike.
    samples[4] = {
      ...samples[4]!,
      x: samples[4]!.x.map(() => samples[4]!.x[0]!),
      keys: samples[4]!.keys.map(() => samples[4]!.keys[0]!),
    };
    for (const asked of [0, 1, 2, 5]) {
      const results = await stage.run(
        samples,
        counts.map((count) => [asked / count]),
      );
      const fused = parameters.rule === 'fuse' && asked > 0 ? 1 : 0;
      assert.deepEqual(
        results.map((r) => r.kept),
        counts.map((count) => count - asked + fused),
        policy,
      );
    }
    await stage.session.dispose();
  }
});

test('tokens that are all alike merge down to the least, at the price of rounding', async () => {
  const stage = await loadStage(runtime, randomParameters('curvature', width), shapeOf(false));
  const [sample] = samplesOf(6, [full], false);
  const alike = { ...sample!, x: sample!.x.map(() => sample!.x[1]!) };
  const [result] = await stage.run([alike], [[-5, Infinity]]);
  assert.ok(result!.kept < 8, `${result!.kept} tokens are left`);
  for (const row of result!.x) close(row, alike.x[0]!, 'a merged token');
});

test('what does not go together is refused by name', async () => {
  const refusals = [
    [
      randomParameters('curvature', width, { rule: 'drop' }),
      /stage_2: rule drop with 2 matchings does not suit the policy curvature/,
    ],
    [randomParameters('magnitude', width, { matchings: 2 }), /stage_2: rule drop with 2 matchings/],
    [randomParameters('curvature', width + 1), /stage_2: the probe's token has 91 numbers, expected 84/],
  ] as const;
  for (const [parameters, message] of refusals) {
    await assert.rejects(loadStage(runtime, parameters, shapeOf(false)), message);
  }
});
