import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { randomFor, type RandomGenerator } from '../../data/random.js';
import type { HeartwoodError } from '../../errors/error.js';
import { removalOrder, stepsToSave, stepsWithin, unitsOf, type UnitFamily } from './fixed-units.js';

const signed = (random: RandomGenerator): number => random.next() / 2 ** 31;

/** UᵀU / K. */
function hessianOf(U: Float32Array, K: number, n: number): Float64Array {
  return Float64Array.from({ length: n * n }, (_, at) => {
    const [i, j] = [Math.floor(at / n), at % n];
    let sum = 0;
    for (let k = 0; k < K; k++) sum += U[k * n + i]! * U[k * n + j]!;
    return sum / K;
  });
}

/** −gᵀs + ½ sᵀHs of a set of units. */
function direct(H: Float64Array, gradient: ArrayLike<number> | undefined, n: number, units: readonly number[]): number {
  let sum = 0;
  for (const i of units) {
    sum -= gradient?.[i] ?? 0;
    for (const j of units) sum += 0.5 * H[i * n + j]!;
  }
  return sum;
}

function randomFamily(
  n: number,
  K: number,
  groups: number,
  seed: number,
  sloped = false,
): UnitFamily & { H: Float64Array } {
  const random = randomFor(seed);
  const U = Float32Array.from({ length: K * n }, () => signed(random));
  const H = hessianOf(U, K, n);
  return {
    name: 'units',
    H,
    curvature: { kind: 'factors', U, K },
    ...(sloped ? { gradient: Float64Array.from({ length: n }, () => 0.3 * signed(random)) } : {}),
    cost: Float64Array.from({ length: n }, () => 1 + Math.abs(signed(random))),
    group: Int32Array.from({ length: n }, (_, j) => j % groups),
    least: new Array<number>(groups).fill(1),
  };
}

const family = fc
  .tuple(
    fc.integer({ min: 1, max: 14 }),
    fc.integer({ min: 1, max: 6 }),
    fc.integer({ min: 1, max: 3 }),
    fc.integer(),
    fc.boolean(),
  )
  .map(([n, K, groups, seed, sloped]) => randomFamily(n, K, groups, seed, sloped));

test('what a prefix predicts is −gᵀs + ½ sᵀHs of its units, and its savings are theirs', () => {
  fc.assert(
    fc.property(family, (units) => {
      const n = units.cost.length;
      const steps = removalOrder([units]);
      steps.forEach(({ predicted, saved }, at) => {
        const chosen = unitsOf(steps, at + 1).get('units')!;
        assert.equal(new Set(chosen).size, at + 1);
        assert.ok(Math.abs(predicted - direct(units.H, units.gradient, n, chosen)) < 1e-9);
        assert.ok(Math.abs(saved - chosen.reduce((sum, unit) => sum + units.cost[unit]!, 0)) < 1e-9);
      });
    }),
  );
});

test('every step takes the most saved per nat that is to be had, by the direct formula', () => {
  fc.assert(
    fc.property(family, (units) => {
      const n = units.cost.length;
      const taken: number[] = [];
      for (const { unit } of removalOrder([units])) {
        const increaseOf = (j: number) =>
          direct(units.H, units.gradient, n, [...taken, j]) - direct(units.H, units.gradient, n, taken);
        const own = increaseOf(unit);
        for (let j = 0; j < n; j++) {
          const others = taken.filter((t) => units.group[t] === units.group[j]).length;
          const members = Array.from(units.group).filter((g) => g === units.group[j]).length;
          if (taken.includes(j) || members - others <= units.least[units.group[j]!]!) continue;
          const other = increaseOf(j);
          if (own <= 0) assert.ok(other >= own - 1e-9, `a greater fall was passed over: ${other}, taken ${own}`);
          else {
            assert.ok(other > -1e-9, 'a fall was passed over');
            assert.ok(units.cost[j]! / other <= (units.cost[unit]! / own) * (1 + 1e-6));
          }
        }
        taken.push(unit);
      }
    }),
    { numRuns: 60 },
  );
});

test('the full matrix and its factors give the same order', () => {
  fc.assert(
    fc.property(family, (units) => {
      const order = removalOrder([units]);
      const full = removalOrder([{ ...units, curvature: { kind: 'full', H: units.H } }]);
      assert.deepEqual(
        full.map(({ unit }) => unit),
        order.map(({ unit }) => unit),
      );
    }),
  );
});

test('close to the best set there is: brute force over all sets of a small network', () => {
  let [chosen, best, alone] = [0, 0, 0];
  for (let seed = 0; seed < 20; seed++) {
    const n = 10;
    const units: UnitFamily & { H: Float64Array } = {
      ...randomFamily(n, 5, 1, seed),
      cost: new Float64Array(n).fill(1),
    };
    for (const size of [3, 5]) {
      chosen += removalOrder([units])[size - 1]!.predicted;
      let least = Infinity;
      for (let mask = 0; mask < 1 << n; mask++) {
        const set = Array.from({ length: n }, (_, j) => j).filter((j) => (mask >> j) & 1);
        if (set.length === size) least = Math.min(least, direct(units.H, undefined, n, set));
      }
      best += least;
      const byDiagonal = Array.from({ length: n }, (_, j) => j)
        .sort((a, b) => units.H[a * n + a]! - units.H[b * n + b]!)
        .slice(0, size);
      alone += direct(units.H, undefined, n, byDiagonal);
      assert.ok(least <= removalOrder([units])[size - 1]!.predicted + 1e-12);
    }
  }
  assert.ok(chosen < 2 * best, `greedy ${chosen}, best ${best}`);
  assert.ok(chosen < 0.5 * alone, `greedy ${chosen}, without interactions ${alone}`);
});

test('units that help go first, those that cost nothing at all next', () => {
  const units: UnitFamily = {
    name: 'heads',
    curvature: { kind: 'full', H: Float64Array.of(1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2) },
    gradient: [0.9, 0, 0, 1.2],
    cost: [1, 1, 1, 1],
    group: [0, 0, 0, 0],
    least: [0],
  };
  const steps = removalOrder([units]);
  assert.deepEqual(
    steps.map(({ unit }) => unit),
    [0, 3, 2, 1],
  );
  assert.equal(stepsWithin(steps, -0.5), 3);
  assert.equal(stepsWithin(steps, -10), 0);
  assert.equal(stepsToSave(steps, 2.5), 3);
  assert.equal(stepsToSave(steps, 5), undefined);
  assert.equal(stepsToSave(steps, 0), 0);
});

test('groups keep their least, families compete for the budget, limits end the steps', () => {
  const heads = { ...randomFamily(12, 3, 4, 1), name: 'heads' };
  const neurons = { ...randomFamily(60, 8, 2, 2), name: 'neurons', least: [8, 8] };
  const steps = removalOrder([heads, neurons]);
  assert.equal(steps.length, 12 - 4 + 60 - 16);
  const gone = unitsOf(steps, steps.length);
  for (let block = 0; block < 4; block++) {
    assert.equal(gone.get('heads')!.filter((unit) => heads.group[unit] === block).length, 2);
  }
  assert.equal(gone.get('neurons')!.filter((unit) => unit % 2 === 0).length, 22);
  // The steps of either are its own order, and of their two next ones the better came first.
  const [own, other] = [removalOrder([heads]), removalOrder([neurons])];
  const unitsIn = (name: string) => steps.filter(({ family }) => family === name).map(({ unit }) => unit);
  assert.deepEqual(
    [unitsIn('heads'), unitsIn('neurons')],
    [own.map(({ unit }) => unit), other.map(({ unit }) => unit)],
  );
  const ratios = (order: typeof steps) =>
    order.map(({ predicted, saved }, at) => {
      const increase = predicted - (order[at - 1]?.predicted ?? 0);
      return increase <= 0 ? 1e12 - increase : (saved - (order[at - 1]?.saved ?? 0)) / increase;
    });
  const [headRatios, neuronRatios] = [ratios(own), ratios(other)];
  let [h, m] = [0, 0];
  for (const { family } of steps) {
    const [head, neuron] = [headRatios[h] ?? 0, neuronRatios[m] ?? 0];
    assert.ok(family === 'heads' ? head >= neuron * (1 - 1e-6) : neuron >= head * (1 - 1e-6));
    if (family === 'heads') h++;
    else m++;
  }
  // What is predicted may fall again: the first step beyond the limit ends it.
  const limit = 0.9 * Math.max(...steps.map(({ predicted }) => predicted));
  const beyond = steps.findIndex(({ predicted }) => predicted > limit);
  assert.deepEqual(removalOrder([heads, neurons], { predicted: limit }), steps.slice(0, beyond + 1));
  assert.deepEqual(removalOrder([heads, neurons], { saved: steps[9]!.saved }), steps.slice(0, 10));
});

test('a family that is too large for its Hessian: predictions are exact, choices nearly those of the whole matrix', () => {
  const [n, K] = [1200, 24];
  const units = randomFamily(n, K, 3, 7);
  // Some units a hundred times as weighty as others, as in a network.
  const curvature = units.curvature as { U: Float32Array };
  for (let at = 0; at < curvature.U.length; at++) curvature.U[at] = curvature.U[at]! * 100 ** ((at % n) / n);
  const H = hessianOf(curvature.U, K, n);
  const large = removalOrder([units]);
  const exact = removalOrder([{ ...units, curvature: { kind: 'full', H } }]);
  assert.equal(large.length, n - 3);
  for (const count of [1, 100, 500, 1000]) {
    const { predicted, saved } = large[count - 1]!;
    const truth = direct(H, undefined, n, unitsOf(large, count).get('units')!);
    assert.ok(Math.abs(predicted - truth) < 1e-9 * Math.max(1, truth), `${count}: ${predicted}, directly ${truth}`);
    // At the same savings.
    const whole = exact[stepsToSave(exact, saved)! - 1]!.predicted;
    assert.ok(predicted < 1.1 * whole + 1e-6, `${count}: ${predicted}, by the whole matrix ${whole}`);
  }
});

test('families whose arrays disagree are refused', () => {
  const units = randomFamily(6, 2, 2, 3);
  const refused = (changed: Partial<UnitFamily>, message: RegExp) =>
    assert.throws(
      () => removalOrder([{ ...units, ...changed }]),
      (error: HeartwoodError) => error.code === 'INVALID_ARGUMENT' && message.test(error.message),
    );
  refused({ curvature: { kind: 'full', H: new Float64Array(35) } }, /35 elements, expected 6 × 6/);
  refused({ curvature: { kind: 'factors', U: new Float32Array(6).fill(NaN), K: 1 } }, /element 0 of a Hessian is NaN/);
  refused({ group: [0, 0, 0, 1, 1, 2] }, /unit 5 is of group 2/);
  refused({ cost: [1, 1, 1, -1, 1, 1] }, /unit 3 saves -1/);
  refused({ gradient: [1] }, /6 costs go with 1 gradients/);
});
