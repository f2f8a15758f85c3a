import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { randomFor, type RandomGenerator } from '../../../libs/data/random.js';
import { quantileOfSorted } from '../../../libs/pruning/statistics/quantiles.js';
import { bootstrapIntervals, ClusteredValues, pairedShareInterval, shareInterval } from './statistics.js';

const uniform = (random: RandomGenerator): number => ((random.next() >>> 0) + 0.5) / 2 ** 32;
const normal = (random: RandomGenerator): number =>
  Math.sqrt(-2 * Math.log(uniform(random))) * Math.cos(2 * Math.PI * uniform(random));
const close = (actual: number | undefined, expected: number, tolerance = 1e-4) =>
  assert.ok(Math.abs(actual! - expected) < tolerance, `${actual}, expected ${expected}`);

/** The share of seeded trials whose interval holds the truth. */
async function coverage(
  trials: number,
  truth: number,
  trial: (random: RandomGenerator, seed: number) => Promise<{ low: number; high: number } | undefined>,
): Promise<number> {
  let held = 0;
  for (let seed = 0; seed < trials; seed++) {
    const interval = await trial(randomFor(seed, 77), seed);
    if (interval!.low <= truth && truth <= interval!.high) held++;
  }
  return held / trials;
}

describe('bootstrap intervals', () => {
  /** Of 400 trials at 95 %, fewer than 91 % or more than 98.5 % hold in less than one case of a thousand; and the seeds are fixed. */
  const within = (share: number) => assert.ok(share >= 0.91 && share <= 0.985, `covered in ${share}`);

  it('cover the ratio of two times that share what slows the machine', async (t) => {
    // A round's common slowness varies far more than what is to be told: unpaired, the interval would be of no use.
    for (const rounds of [8, 40]) {
      const widths: number[] = [];
      const share = await coverage(400, 0.9, async (random, seed) => {
        const [first, second] = [new Float64Array(rounds), new Float64Array(rounds)];
        for (let round = 0; round < rounds; round++) {
          const slow = Math.exp(0.5 * normal(random));
          first[round] = slow * Math.exp(0.05 * normal(random));
          second[round] = 0.9 * slow * Math.exp(0.05 * normal(random));
        }
        const sums = (counts: Uint32Array, values: Float64Array) =>
          values.reduce((sum, value, at) => sum + counts[at]! * value, 0);
        const ratio = (counts: Uint32Array, out: Float64Array) => {
          out[0] = sums(counts, second) / sums(counts, first);
        };
        const point = new Float64Array(1);
        ratio(new Uint32Array(rounds).fill(1), point);
        const [interval] = await bootstrapIntervals(rounds, point, ratio, { confidence: 0.95, seed, resamples: 400 });
        widths.push(interval!.high - interval!.low);
        return interval;
      });
      t.diagnostic(`${rounds} rounds: covered in ${(100 * share).toFixed(1)} %`);
      within(share);
      if (rounds === 40) assert.ok(widths.sort()[200]! < 0.08, 'pairing makes it narrow');
    }
  });

  it('cover the ratio of two medians', async (t) => {
    const [rounds, each] = [30, 4];
    const clusters = Uint32Array.from({ length: rounds * each }, (_, at) => Math.floor(at / each));
    const share = await coverage(300, 0.5, async (random, seed) => {
      const draw = (scale: number) =>
        new ClusteredValues(
          Float64Array.from(clusters, () => scale * Math.exp(0.3 * normal(random))),
          clusters,
        );
      const [first, second] = [draw(1), draw(0.5)];
      const [a, b] = [new Float64Array(1), new Float64Array(1)];
      const ratio = (counts: Uint32Array, out: Float64Array) => {
        first.quantiles(counts, [0.5], a);
        second.quantiles(counts, [0.5], b);
        out[0] = b[0]! / a[0]!;
      };
      const point = new Float64Array(1);
      ratio(new Uint32Array(rounds).fill(1), point);
      return (await bootstrapIntervals(rounds, point, ratio, { confidence: 0.95, seed, resamples: 400 }))[0];
    });
    t.diagnostic(`covered in ${(100 * share).toFixed(1)} %`);
    within(share);
  });

  it('are the same, bit for bit, by the same seed, whatever the pauses; a constant has no width', async () => {
    const values = Float64Array.from({ length: 20 }, (_, at) => at * at);
    const evaluate = (counts: Uint32Array, out: Float64Array) => {
      out[0] = values.reduce((sum, value, at) => sum + counts[at]! * value, 0) / 20;
      out[1] = 3;
    };
    const point = Float64Array.of(123.5, 3);
    let pauses = 0;
    const pause = async () => void pauses++;
    const run = (seed: number, pausing = {}) =>
      bootstrapIntervals(20, point, evaluate, { confidence: 0.9, seed, ...pausing });
    const once = await run(5);
    assert.deepEqual(await run(5, { pause }), once);
    assert.notDeepEqual(await run(6), once);
    assert.deepEqual(once[1], { low: 3, high: 3 });
    const wide = await bootstrapIntervals(20, point, evaluate, { confidence: 0.99, seed: 5 });
    assert.ok(wide[0]!.low < once[0]!.low && wide[0]!.high > once[0]!.high);
  });

  it('are not given where there is nothing to take them from', async () => {
    const nothing = (_: Uint32Array, out: Float64Array) => void (out[0] = NaN);
    const options = { confidence: 0.95, seed: 0, resamples: 10 };
    assert.deepEqual(await bootstrapIntervals(1, Float64Array.of(1), nothing, options), [undefined]);
    assert.deepEqual(await bootstrapIntervals(9, Float64Array.of(1), nothing, options), [undefined]);
  });

  it('end when the pause throws', async () => {
    const slow = (_: Uint32Array, out: Float64Array) => {
      const end = performance.now() + 1;
      while (performance.now() < end) out[0] = 1;
    };
    const stop = new Error('stop');
    const pause = () => Promise.reject(stop);
    const running = bootstrapIntervals(9, Float64Array.of(1), slow, { confidence: 0.95, seed: 0, pause });
    await assert.rejects(running, stop);
  });
});

describe('quantiles of clusters', () => {
  it('are those of the values written out as often as their clusters were drawn', () => {
    const value = fc.oneof(fc.integer({ min: 0, max: 5 }), fc.double({ min: 0, max: 10, noNaN: true }));
    const drawn = fc.array(fc.record({ value, cluster: fc.nat(4) }), { minLength: 1, maxLength: 30 });
    const counts = fc.array(fc.nat(3), { minLength: 5, maxLength: 5 });
    fc.assert(
      fc.property(drawn, counts, (list, times) => {
        const values = list.map((each) => each.value);
        const clustered = new ClusteredValues(
          values,
          list.map(({ cluster }) => cluster),
        );
        const ps = [0, 0.3, 0.5, 0.95, 0.99, 1];
        const out = new Float64Array(ps.length);
        clustered.quantiles(Uint32Array.from(times), ps, out);
        const expanded = list.flatMap(({ value: each, cluster }) => new Array<number>(times[cluster]!).fill(each));
        const sorted = Float64Array.from(expanded).sort();
        const expected = ps.map((p) => (sorted.length === 0 ? NaN : quantileOfSorted(sorted, p)));
        assert.deepEqual([...out], expected);
      }),
      { numRuns: 500 },
    );
  });
});

describe('intervals of shares', () => {
  it("are Wilson's, against published values", () => {
    // Newcombe 1998, table I, method 3: 81/263, 15/148, 0/20, 1/29.
    for (const [hits, n, low, high] of [
      [81, 263, 0.2553, 0.3662],
      [15, 148, 0.0624, 0.1605],
      [0, 20, 0, 0.1611],
      [1, 29, 0.0061, 0.1718],
    ] as const) {
      const interval = shareInterval(hits, n, 0.95);
      close(interval?.low, low);
      close(interval?.high, high);
    }
    assert.equal(shareInterval(200, 200, 0.95)!.high, 1);
    assert.ok(shareInterval(200, 200, 0.95)!.low < 0.985, 'that all agree does not mean that all will');
    assert.equal(shareInterval(0, 0, 0.95), undefined);
  });

  it('of a paired difference rest on the samples where the two differ, and turn over with them', () => {
    // By hand: b 12.5, c 4.5, n 102: 8/102 ± 1.959964 √(17 − 64/102) / 102.
    const interval = pairedShareInterval(12, 4, 100, 0.95)!;
    close(interval.low, 8 / 102 - (1.959964 * Math.sqrt(17 - 64 / 102)) / 102, 1e-6);
    close(interval.high, 8 / 102 + (1.959964 * Math.sqrt(17 - 64 / 102)) / 102, 1e-6);
    const turned = pairedShareInterval(4, 12, 100, 0.95)!;
    close(turned.low, -interval.high, 1e-12);
    const none = pairedShareInterval(0, 0, 100, 0.95)!;
    assert.ok(none.low < 0 && none.high > 0 && none.high < 0.03);
  });

  it('of a paired difference cover it', async (t) => {
    const [n, gain, loss] = [150, 0.02, 0.05];
    const share = await coverage(1000, gain - loss, async (random) => {
      let [gained, lost] = [0, 0];
      for (let i = 0; i < n; i++) {
        const u = uniform(random);
        if (u < gain) gained++;
        else if (u < gain + loss) lost++;
      }
      return pairedShareInterval(gained, lost, n, 0.95);
    });
    t.diagnostic(`covered in ${(100 * share).toFixed(1)} %`);
    assert.ok(share >= 0.93 && share <= 0.985, `covered in ${share}`);
  });
});
