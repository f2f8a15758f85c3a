import assert from 'node:assert/strict';
import { test } from 'node:test';
import { randomFor } from '../../data/random.js';
import type { HeartwoodError } from '../../errors/error.js';
import { guidedRemovals, removals, type RemovalStep, type UnitFamily } from './fixed-units.js';
import { shrinkageOf } from './shrinkage.js';

/** Normal numbers (Box & Muller). */
function normals(count: number, seed: number): Float64Array {
  const random = randomFor(seed, count);
  const uniform = () => ((random.next() >>> 0) + 0.5) / 2 ** 32;
  return Float64Array.from({ length: count }, () => {
    const radius = Math.sqrt(-2 * Math.log(uniform()));
    return radius * Math.cos(2 * Math.PI * uniform());
  });
}

const n = 160;
/** A true Hessian, BᵀB / n of more rows than units, whose units weigh from 1 to 30. */
function trueHessian(seed: number): { root: Float64Array; H: Float64Array; rows: number } {
  const rows = 2 * n;
  const root = normals(rows * n, seed);
  const common = normals(rows, seed + 1);
  for (let k = 0; k < rows; k++)
    for (let j = 0; j < n; j++) root[k * n + j] = (root[k * n + j]! + 0.5 * common[k]!) * 30 ** (j / n);
  const H = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = 0;
      for (let k = 0; k < rows; k++) sum += root[k * n + i]! * root[k * n + j]!;
      H[i * n + j] = H[j * n + i] = sum / rows;
    }
  }
  return { root, H, rows };
}

/** Random rows whose outer products have H as their mean: K of them, as an output sketch. */
function sketch({ root, rows }: ReturnType<typeof trueHessian>, K: number, seed: number): Float32Array {
  const signs = normals(K * rows, seed).map(Math.sign);
  const U = new Float32Array(K * n);
  for (let k = 0; k < K; k++) {
    for (let row = 0; row < rows; row++) {
      const weight = signs[k * rows + row]! / Math.sqrt(rows);
      for (let j = 0; j < n; j++) U[k * n + j]! += weight * root[row * n + j]!;
    }
  }
  return U;
}

function fieldAt(H: Float64Array, gone: readonly number[]): Float64Array {
  const field = new Float64Array(n);
  for (const unit of gone) for (let i = 0; i < n; i++) field[i]! += H[unit * n + i]!;
  return field;
}

const lossOf = (H: Float64Array, gone: readonly number[]) => {
  const field = fieldAt(H, gone);
  return gone.reduce((sum, unit) => sum + field[unit]! / 2, 0);
};

const guideOf = (H: Float64Array, every: number, taken: number[] = []) => ({
  every,
  async bearing(gone: readonly number[]) {
    taken.push(gone.length);
    return Promise.resolve({
      loss: lossOf(H, gone),
      gradient: fieldAt(H, gone).map((value) => -value),
      error: new Float64Array(n),
    });
  },
});

const familyOf = (U: Float32Array, K: number, shrinkage = 0): UnitFamily => ({
  name: 'units',
  curvature: { kind: 'factors', U, K, shrinkage },
  cost: new Float64Array(n).fill(1),
  group: new Int32Array(n),
  least: [0],
});

async function first(steps: AsyncIterable<RemovalStep> | Iterable<RemovalStep>, count: number) {
  const found: RemovalStep[] = [];
  for await (const step of steps) {
    found.push(step);
    if (found.length === count) break;
  }
  return { units: found.map(({ unit }) => unit), predicted: found.at(-1)!.predicted };
}

test('an order by few random directions foretells far too little, one with bearings on the way what is so, and loses less', async () => {
  const [K, count] = [24, 80];
  const totals = { alone: 0, aloneTold: 0, guided: 0, guidedTold: 0, shrunk: 0 };
  for (let seed = 0; seed < 4; seed++) {
    const truth = trueHessian(10 * seed);
    const U = sketch(truth, K, 10 * seed + 5);
    const shrinkage = shrinkageOf({ U, K }, 1);
    const alone = await first(removals([familyOf(U, K)]), count);
    const shrunk = await first(removals([familyOf(U, K, shrinkage)]), count);
    const guided = await first(guidedRemovals(familyOf(U, K, shrinkage), guideOf(truth.H, 5)), count);
    totals.alone += lossOf(truth.H, alone.units);
    totals.aloneTold += alone.predicted;
    totals.shrunk += lossOf(truth.H, shrunk.units);
    totals.guided += lossOf(truth.H, guided.units);
    totals.guidedTold += guided.predicted;
  }
  const said = JSON.stringify(totals);
  assert.ok(totals.aloneTold < 0.65 * totals.alone, said);
  assert.ok(Math.abs(totals.guidedTold / totals.guided - 1) < 0.2, said);
  assert.ok(totals.guided < 0.95 * totals.alone, said);
  assert.ok(totals.shrunk < totals.alone, said);
});

test('of an exact Hessian bearings change nothing, however the family is kept', async () => {
  const truth = trueHessian(3);
  const order = await first(removals([{ ...familyOf(new Float32Array(0), 1), curvature: exact(truth.H) }]), n);
  const guided = guidedRemovals(
    { ...familyOf(new Float32Array(0), 1), curvature: exact(truth.H) },
    guideOf(truth.H, 7),
  );
  const found = await first(guided, n);
  assert.deepEqual(found.units, order.units);
  assert.ok(Math.abs(found.predicted / order.predicted - 1) < 1e-9);
  assert.ok(Math.abs(order.predicted / lossOf(truth.H, order.units) - 1) < 1e-9);
});

const exact = (H: Float64Array) => ({ kind: 'full', H }) as const;

test('a large family is kept by factors, and goes on from a bearing with a new pool', async () => {
  // More units than a Hessian is formed of: five copies side by side, independent of each other.
  const [truth, K, copies] = [trueHessian(8), 40, 5];
  const U = sketch(truth, K, 9);
  const wide = new Float32Array(K * n * copies);
  for (let k = 0; k < K; k++)
    for (let j = 0; j < n * copies; j++)
      wide[k * n * copies + j] = U[k * n + (j % n)]! * ((k + j) % copies === 0 ? 1 : 0);
  const all = n * copies;
  const direct = (gone: readonly number[]) => {
    const field = new Float64Array(all);
    for (let k = 0; k < K; k++) {
      const row = wide.subarray(k * all, (k + 1) * all);
      const product = gone.reduce((sum, unit) => sum + row[unit]!, 0) / K;
      for (let j = 0; j < all; j++) field[j]! += product * row[j]!;
    }
    return {
      loss: gone.reduce((sum, unit) => sum + field[unit]! / 2, 0),
      gradient: field.map((value) => -value),
      error: new Float64Array(all),
    };
  };
  const family = {
    ...familyOf(wide, K),
    cost: new Float64Array(all).fill(1),
    group: new Int32Array(all),
  };
  const asked: number[] = [];
  const steps = guidedRemovals(family, {
    every: 50,
    bearing: async (gone) => {
      asked.push(gone.length);
      return Promise.resolve(direct(gone));
    },
  });
  const units: number[] = [];
  for await (const { unit, predicted, saved } of steps) {
    units.push(unit);
    const truth = direct(units).loss;
    assert.ok(
      Math.abs(predicted - truth) < 1e-6 * Math.max(1, truth),
      `${units.length}: ${predicted}, directly ${truth}`,
    );
    assert.equal(saved, units.length);
    if (units.length === 220) break;
  }
  assert.equal(new Set(units).size, 220);
  // None is taken before a step is asked for that it is of use to.
  assert.deepEqual(asked, [50, 100, 150, 200]);
});

test('a bearing of another number of units is refused', async () => {
  const truth = trueHessian(4);
  const guide = { every: 1, bearing: () => Promise.resolve({ loss: 0, gradient: [1, 2], error: [0, 0] }) };
  await assert.rejects(
    first(guidedRemovals({ ...familyOf(new Float32Array(0), 1), curvature: exact(truth.H) }, guide), 3),
    (error: HeartwoodError) => error.code === 'INVALID_ARGUMENT' && /160 units go with 2 gradients/.test(error.message),
  );
});

test('of slopes with errors a unit goes by the upper end, and is foretold by the mean', async () => {
  const diagonal = new Float64Array(4).fill(2);
  const family: UnitFamily = {
    name: 'units',
    curvature: { kind: 'diagonal', diagonal },
    cost: [1, 1, 1, 1],
    group: [0, 0, 0, 0],
    least: [0],
  };
  // Unit 1 seems to help, as noise may; unit 2 is a little worse, and surely so.
  const bearing = () => Promise.resolve({ loss: 1, gradient: [0, 2, 0.5, 0], error: [0, 3, 0, 0.1] });
  const steps = await first(guidedRemovals(family, { every: 1, bearing }), 2);
  assert.deepEqual(steps.units, [0, 2]);
  assert.ok(Math.abs(steps.predicted - 1.5) < 1e-12);
});

test('shrinkage is the share of noise: all of what is independent, little of what many rows say, and less the more they are', () => {
  const independent = Float32Array.from(normals(40 * n, 1));
  assert.ok(shrinkageOf({ U: independent, K: 40 }, 1) > 0.9);
  const truth = trueHessian(2);
  const [few, many] = [20, 400].map((K) => shrinkageOf({ U: sketch(truth, K, 6), K }, 1));
  assert.ok(few! > 2 * many!, `${few}, ${many}`);
  assert.ok(few! < 1 && many! > 0);
  // The rows of a sample say one thing together: repeated they are no more than once.
  const U = sketch(truth, 20, 6);
  const twice = new Float32Array(2 * U.length);
  for (let k = 0; k < 40; k++) twice.set(U.subarray((k >> 1) * n, ((k >> 1) + 1) * n), k * n);
  assert.ok(Math.abs(shrinkageOf({ U: twice, K: 40 }, 2) - few!) < 1e-6);
  assert.ok(shrinkageOf({ U: twice, K: 40 }, 1) < few!);
  assert.equal(shrinkageOf({ U: U.subarray(0, n), K: 1 }, 1), 0);
  assert.equal(shrinkageOf({ U: new Float32Array(3 * n), K: 3 }, 1), 0);
});
