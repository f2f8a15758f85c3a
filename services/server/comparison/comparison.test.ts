import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { invalid } from '../../../libs/errors/error.js';
import { compareLanes } from './comparison.js';
import type { ComparisonSettings, Lane, SampleBatch, SampleSource } from './lane.js';
import type { LaneMeasurements, Measurements } from './measure.js';
import { requestsInRound, roundsOf } from './schedule.js';
import { summariseComparison } from './summary.js';

const { signal } = new AbortController();
const usual: ComparisonSettings = { batch: 1, concurrency: 1, warmup: 0, seed: 3, confidence: 0.95 };

describe('the schedule', () => {
  it('gives every sample to every version once, in rounds of equal length, in fair order', () => {
    const options = fc.record({
      samples: fc.integer({ min: 1, max: 200 }),
      batch: fc.integer({ min: 1, max: 8 }),
      lanes: fc.integer({ min: 1, max: 5 }),
      seed: fc.nat(),
      requestsInRound: fc.integer({ min: 1, max: 9 }),
    });
    fc.assert(
      fc.property(options, (given) => {
        fc.pre(given.batch <= given.samples);
        const rounds = roundsOf(given);
        assert.deepEqual(roundsOf(given), rounds, 'by the seed alone');
        const all = rounds.flatMap(({ requests }) => requests.flat());
        const whole = Math.floor(given.samples / given.batch) * given.batch;
        assert.deepEqual(
          all,
          Array.from({ length: whole }, (_, at) => at),
        );
        const lengths = rounds.map(({ requests }) => requests.length);
        assert.ok(Math.max(...lengths) - Math.min(...lengths) <= 1);
        for (const { order } of rounds)
          assert.deepEqual(
            [...order].sort(),
            Array.from({ length: given.lanes }, (_, lane) => lane),
          );
        // In every whole run of as many rounds as versions each one takes each place once.
        for (let from = 0; from + given.lanes <= rounds.length; from += given.lanes) {
          for (let turn = 0; turn < given.lanes; turn++) {
            const there = rounds.slice(from, from + given.lanes).map(({ order }) => order[turn]);
            assert.equal(new Set(there).size, given.lanes);
          }
        }
      }),
    );
  });

  it('draws the order by the seed', () => {
    const orders = (seed: number) =>
      roundsOf({ samples: 40, batch: 1, lanes: 3, seed, requestsInRound: 1 }).map(({ order }) => order.join());
    assert.notDeepEqual(orders(1), orders(2));
    assert.ok(new Set(orders(1)).size > 3, 'not one rotation for ever');
  });

  it('makes rounds longer for concurrency and for a meter, but leaves enough of them', () => {
    const of = (requests: number, concurrency: number, metered = false, requestMs = 10) =>
      requestsInRound({ requests, concurrency, metered, requestMs });
    assert.equal(of(1000, 1), 1);
    assert.equal(of(1000, 4), 16);
    assert.equal(of(100, 4), 6);
    assert.equal(of(20, 4), 4);
    assert.equal(of(1000, 1, true), 20);
    assert.equal(of(1000, 4, true), 80);
    assert.equal(of(80, 1, true), 10);
    assert.equal(of(1000, 1, true, Infinity), 1);
  });
});

/** Samples whose number is their content; label 1 of all. */
interface Numbered extends SampleBatch {
  readonly samples: readonly number[];
}
const source = (size: number): SampleSource<Numbered> => ({
  size,
  labelled: true,
  read: async (samples) => ({ samples, size: samples.length, labels: samples.map(() => 1) }),
});

/** Answers class 1, but class 0 on the samples that it gets wrong. */
function lane(version: number, wrong: (sample: number) => boolean, told: (samples: readonly number[]) => unknown) {
  const answer: Lane<Numbered>['answer'] = async ({ samples }) => {
    await told(samples);
    return {
      logits: Float32Array.from(samples.flatMap((sample) => (wrong(sample) ? [2, 0] : [0, 2]))),
      classes: 2,
      tokensKept: samples.map((sample) => [sample % 2 === 0 ? 4 : 8]),
      flops: samples.map(() => 100 * version),
      ...(version > 1 ? { budget: samples.map(() => 0.5) } : {}),
    };
  };
  return { version, policy: version === 1 ? 'unpruned' : 'curvature', answer } satisfies Lane<Numbered>;
}

describe('a comparison of texts', () => {
  it('measures first and later tokens, and the tokens until the texts part', async () => {
    const lane = (version: number): Lane<Numbered> => ({
      version,
      policy: 'unpruned',
      answer: async ({ samples }) => {
        const [sample = 0] = samples;
        // Version 2 parts from version 1 at its third token, of every second text.
        const tokens = [1, 2, version === 2 && sample % 2 === 1 ? 9 : 3, 4];
        const facts = { tokensKept: [8 / version], flops: 100 / version, budget: version === 2 ? 0.5 : undefined };
        return Promise.resolve({ tokens, firstTokenMs: 40 / version, nextTokenMs: 10 / version, ...facts });
      },
    });
    const result = await compareLanes([lane(1), lane(2)], source(40), usual, { signal });
    const [first, second] = result.versions;
    assert.deepEqual(first!.text!.firstToken, { p50: 40, p95: 40 });
    assert.deepEqual(second!.text!.nextToken, { p50: 5, p95: 5 });
    assert.deepEqual([first!.text!.tokens, first!.kl, first!.accuracy], [4, null, null]);
    assert.equal(first!.text!.tokensPerSecond, 4 * first!.throughput);
    assert.deepEqual([first!.text!.sameBeginning, second!.text!.sameBeginning], [1, 0.75]);
    assert.deepEqual([second!.tokensKept, second!.budget, second!.text!.joulesPerToken], [[4], 0.5, null]);
    const differences = second!.differences!;
    for (const measure of ['firstTokenP50', 'firstTokenP95', 'nextTokenP50', 'nextTokenP95'] as const)
      assert.deepEqual(differences[measure]!.interval, { low: 0.5, high: 0.5 }, measure);
    const same = differences.sameBeginning!;
    assert.ok(same.interval!.low < 0.75 && same.interval!.high > 0.75 && same.interval!.high <= 1);
    // Lanes that foretell nothing have nothing to be compared in.
    assert.deepEqual([second!.agreement, second!.kl, second!.text!.predictions], [null, null, 0]);
    assert.deepEqual([differences.kl, differences.agreement], [undefined, undefined]);
  });
});

describe('a comparison', () => {
  it('measures what the versions answered, on the same samples', async () => {
    const asked: [number, readonly number[]][] = [];
    const lanes = [1, 2].map((version) =>
      lane(
        version,
        (sample) => version === 2 && sample % 4 === 0,
        (samples) => asked.push([version, samples]),
      ),
    );
    const steps: string[] = [];
    const settings = { ...usual, batch: 2, warmup: 3 };
    const result = await compareLanes(lanes, source(41), settings, {
      signal,
      progress: ({ stage, done, total, unit }) => steps.push(`${stage} ${done}/${total} ${unit}`),
    });
    const [first, second] = result.versions;
    assert.deepEqual([result.samples, result.requests, result.rounds, result.meter], [40, 20, 20, null]);
    assert.equal(asked.length, 2 * (20 + 3));
    for (const version of [1, 2]) {
      const counted = asked.slice(6).filter(([each]) => each === version);
      assert.deepEqual(
        counted.flatMap(([, samples]) => samples),
        Array.from({ length: 40 }, (_, at) => at),
      );
    }
    assert.deepEqual(steps.slice(0, 4), [
      'warm-up 1/3 requests',
      'warm-up 2/3 requests',
      'warm-up 3/3 requests',
      'compare 2/40 samples',
    ]);
    assert.equal(steps.at(-1), 'compare 40/40 samples');
    assert.deepEqual([first!.accuracy, second!.accuracy, second!.agreement], [1, 0.75, 0.75]);
    assert.deepEqual([first!.flops, second!.flops], [100, 200]);
    assert.deepEqual([first!.budget, second!.budget, first!.joules], [null, 0.5, null]);
    assert.deepEqual(first!.tokensKept, [6]);
    assert.equal(first!.differences, null);
    // Two classes whose logits, 2 apart, change places on a quarter of the samples: KL = 2 (p − q), p = e² / (1 + e²).
    const p = Math.exp(2) / (1 + Math.exp(2));
    assert.ok(Math.abs(second!.kl! - (2 * (2 * p - 1)) / 4) < 1e-6);
    const differences = second!.differences!;
    assert.deepEqual(differences.flops, { kind: 'ratio', value: 2, interval: { low: 2, high: 2 }, thin: false });
    assert.equal(differences.accuracy!.value, -0.25);
    assert.equal(differences.joules, undefined);
    assert.ok(Math.abs(differences.crossEntropy!.value - 0.5) < 1e-6);
    for (const [measure, { value, interval, thin }] of Object.entries(differences)) {
      assert.ok(interval!.low <= value && value <= interval!.high, measure);
      assert.equal(thin, measure === 'latencyP95' || measure === 'latencyP99', measure);
    }
  });

  it('has as many requests under way as asked for, of one version at a time, and reads the meter around its turn', async () => {
    let underWay = new Map<number, number>();
    let most = 0;
    let joules = 0;
    const told = (version: number) => async () => {
      underWay.set(version, (underWay.get(version) ?? 0) + 1);
      assert.deepEqual([...underWay.keys()], [version]);
      most = Math.max(most, underWay.get(version)!);
      joules += 3 * version;
      await new Promise((resolve) => setImmediate(resolve));
      underWay.set(version, underWay.get(version)! - 1);
      if (underWay.get(version) === 0) underWay = new Map();
    };
    const lanes = [1, 2].map((version) => lane(version, () => false, told(version)));
    const meter = { name: 'a meter', joules: async () => joules };
    const { versions, meter: name } = await compareLanes(
      lanes,
      source(64),
      { ...usual, concurrency: 4 },
      { signal, meter },
    );
    assert.deepEqual([most, name], [4, 'a meter']);
    assert.deepEqual(
      versions.map((each) => each.joules),
      [3, 6],
    );
    assert.deepEqual(versions[1]!.differences!.joules, {
      kind: 'ratio',
      value: 2,
      interval: { low: 2, high: 2 },
      thin: false,
    });
  });

  it('tells no joules where the meter fails in between', async () => {
    let reads = 0;
    const meter = { name: 'a meter', joules: async () => (++reads === 7 ? undefined : reads) };
    const lanes = [1, 2].map((version) =>
      lane(
        version,
        () => false,
        () => undefined,
      ),
    );
    const { versions } = await compareLanes(lanes, source(16), usual, { signal, meter });
    assert.equal(versions.filter(({ joules }) => joules === null).length, 1);
    assert.equal(versions[1]!.differences!.joules, undefined);
  });

  it('ends with the error of the request that failed, and asks no more', async () => {
    let asked = 0;
    const lanes = [
      lane(
        1,
        () => false,
        ([sample]) => {
          asked++;
          if (sample === 5) throw invalid('sample 5 is bad');
        },
      ),
    ];
    await assert.rejects(compareLanes(lanes, source(100), usual, { signal }), { message: 'sample 5 is bad' });
    assert.equal(asked, 6);
  });

  it('stops at once when it is told to', async () => {
    const controller = new AbortController();
    let asked = 0;
    const stopAt = ([sample]: readonly number[]) => {
      asked++;
      if (sample === 7) controller.abort();
    };
    const running = compareLanes([lane(1, () => false, stopAt)], source(100), usual, { signal: controller.signal });
    await assert.rejects(running, { name: 'AbortError' });
    assert.equal(asked, 8);
  });

  it('refuses settings that do not fit, and versions of other classes', async () => {
    const one = [
      lane(
        1,
        () => false,
        () => undefined,
      ),
    ];
    const refused = (changes: Partial<ComparisonSettings>, message: RegExp, lanes: Lane<Numbered>[] = one) =>
      assert.rejects(compareLanes(lanes, source(6), { ...usual, ...changes }, { signal }), {
        code: 'INVALID_ARGUMENT',
        message,
      });
    await refused({ batch: 7 }, /batch: 7 is more than the 6 samples/);
    await refused({ batch: 2, concurrency: 4 }, /concurrency: 4 is more than the 3 requests that 6 samples make/);
    await refused({ batch: 0 }, /batch: expected a whole number of 1 or more, got 0/);
    await refused({ concurrency: 1.5 }, /concurrency: .*got 1\.5/);
    await refused({ warmup: -1 }, /warmup: expected a whole number of 0 or more/);
    await refused({ confidence: 1 }, /confidence: expected between 0\.5 and 1, got 1/);
    await refused({}, /versions: expected at least one/, []);
    const three: Lane<Numbered> = {
      version: 2,
      policy: 'other',
      answer: async ({ size }) => ({
        logits: new Float32Array(3 * size),
        classes: 3,
        tokensKept: Array.from({ length: size }, () => []),
        flops: new Array<number>(size).fill(1),
      }),
    };
    await refused({}, /version 2 has 3 classes, version 1 has 2/, [...one, three]);
  });
});

describe('the summary', () => {
  /** Version 2 is twice as fast in every round, however long the round was. */
  function measurements(): Measurements {
    const requests = 600;
    const of = (version: number, factor: number): LaneMeasurements => {
      const latencies = Array.from({ length: requests }, (_, at) => factor * (5 + ((at * 37) % 100) / 10));
      return {
        version,
        policy: 'unpruned',
        latencies,
        rounds: latencies.map((_, at) => at),
        firstToken: [],
        nextToken: [],
        generated: 0,
        roundMs: latencies,
        roundJoules: latencies.map((ms) => ms / 50),
        roundSamples: latencies.map(() => 1),
        flops: new Float64Array(requests).fill(7),
        correct: new Uint8Array(requests),
        crossEntropy: new Float64Array(requests),
        agrees: new Float64Array(requests).fill(1),
        kl: new Float64Array(requests),
        sameBeginning: new Float64Array(requests),
        klAt: [],
        tokensKept: [],
        budget: undefined,
      };
    };
    return {
      lanes: [of(1, 1), of(2, 0.5)],
      ...{ samples: requests, labelled: false, texts: false, meter: 'a meter' },
      ...{ predictions: new Float64Array(requests).fill(1), predictionsAt: [] },
    };
  }

  it('of known times is exact, and the same bit for bit by the same seed', async () => {
    const result = await summariseComparison(measurements(), usual);
    assert.deepEqual(await summariseComparison(measurements(), usual), result);
    const [first, second] = result.versions;
    assert.equal(second!.latency.p50, first!.latency.p50 / 2);
    assert.deepEqual([first!.latency.distribution[0], first!.latency.distribution[100]], [5, 14.9]);
    assert.equal(first!.latency.distribution.length, 101);
    const near = (value: number, expected: number) => assert.ok(Math.abs(value / expected - 1) < 1e-12);
    near(first!.throughput, 1000 / 9.95);
    near(first!.joules!, 9.95 / 50);
    for (const [measure, value] of [
      ['latencyP50', 0.5],
      ['latencyP95', 0.5],
      ['latencyP99', 0.5],
      ['throughput', 2],
      ['joules', 0.5],
    ] as const) {
      const { interval, thin } = second!.differences![measure]!;
      near(interval!.low, value);
      near(interval!.high, value);
      assert.equal(thin, false);
    }
    assert.deepEqual([first!.accuracy, second!.differences!.accuracy, first!.crossEntropy], [null, undefined, null]);
    const { agreement } = second!.differences!;
    assert.equal(agreement!.value, 1);
    assert.ok(agreement!.interval!.low < 1);
  });
});
