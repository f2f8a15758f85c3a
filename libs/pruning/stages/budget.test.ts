import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { GraphBuilder } from '../../onnx/builder.js';
import { encodeModel } from '../../onnx/encode.js';
import { createRuntime, type Runtime } from '../../runtime/runtime.js';
import { budgetFor, interpolate, thresholdsOf, type BudgetTable } from './budget.js';

let runtime: Runtime;
before(() => {
  runtime = createRuntime({ threads: 1 });
});
after(() => runtime.close());

const row = (flopsSaved: number, kl: number, ...thresholds: number[]) => ({ flopsSaved, kl, thresholds });
const table: BudgetTable = {
  rows: [row(0.1, 1e-4, -9, -6), row(0.3, 1e-3, -7, -5.5), row(0.5, 1e-2, -4, -5), row(0.6, 2e-2, -3.5, -2)],
  scale: 1,
};

/** The graph's thresholds, [budgets][thresholds]. */
async function inGraph(of: BudgetTable, budgets: readonly number[]): Promise<number[][]> {
  const g = new GraphBuilder('budget');
  const thresholds = thresholdsOf(g, g.input('budget', 'float32', ['B', 1]), of);
  const session = await runtime.load(
    encodeModel(g.build(thresholds.map((value, i) => g.named(`threshold_${i}`, value)))),
  );
  const feed = { type: 'float32', dims: [budgets.length, 1], data: Float32Array.from(budgets) } as const;
  const answer = await session.run({ budget: feed });
  await session.dispose();
  const columns = thresholds.map((_, i) => answer[`threshold_${i}`]!);
  for (const { dims } of columns) assert.deepEqual(dims, [budgets.length, 1, 1]);
  return budgets.map((_, b) => columns.map(({ data }) => Number(data[b])));
}

function near(actual: readonly number[], expected: readonly number[], what: string): void {
  assert.equal(actual.length, expected.length);
  for (const [i, value] of expected.entries()) {
    const error = actual[i] === value ? 0 : Math.abs(actual[i]! - value);
    assert.ok(
      error <= 2e-4 * Math.max(1, Math.abs(value)),
      `${what}: threshold ${i} is ${actual[i]}, expected ${value}`,
    );
  }
}

test('rows are met, the middle of two in log ε is the middle of their thresholds', () => {
  for (const { kl, thresholds } of table.rows) near(interpolate(table, kl), thresholds, `at ${kl}`);
  near(interpolate(table, Math.sqrt(1e-3 * 1e-2)), [-5.5, -5.25], 'between');
});

test('nothing at and below zero, the first slope below the table, the last row above it', () => {
  for (const nothing of [0, -1, -Infinity, NaN]) assert.deepEqual(interpolate(table, nothing), [-Infinity, -Infinity]);
  near(interpolate(table, 1e-5), [-11, -6.5], 'a decade below');
  for (const large of [2e-2, 1, Infinity]) near(interpolate(table, large), [-3.5, -2], 'above');
});

test('the scale multiplies the budget', () => {
  near(interpolate({ ...table, scale: 0.5 }, 2e-3), table.rows[1]!.thresholds, 'half of 0.002');
});

test('the graph computes the same', async () => {
  const number = (min: number, max: number) => fc.double({ min, max, noNaN: true });
  const rows = fc.array(
    fc.record({
      flopsSaved: number(0, 0.9),
      kl: fc.oneof(
        number(-6, 1).map((v) => 10 ** v),
        fc.constantFrom(0, 1e-3),
      ),
      thresholds: fc.tuple(number(-12, 3), fc.oneof(number(-12, 3), fc.constantFrom(-Infinity, Infinity, -2))),
    }),
    { minLength: 1, maxLength: 12 },
  );
  const budgets = [-1, 0, NaN, 1e-38, 1e-12, 1e-7, 1e-5, 3e-4, 1e-3, 2e-3, 0.011, 0.5, 20, Infinity];
  const check = async (drawn: BudgetTable) => {
    for (const [b, thresholds] of (await inGraph(drawn, budgets)).entries()) {
      near(thresholds, interpolate(drawn, Math.fround(budgets[b]!)), `${JSON.stringify(drawn)} at ${budgets[b]}`);
    }
  };
  await fc.assert(fc.asyncProperty(fc.record({ rows, scale: number(0.2, 3) }), check), { numRuns: 60 });
});

test('a larger budget never means a lower threshold, and below the table always a higher one', () => {
  const cases = fc.record({
    losses: fc.array(fc.double({ min: -5, max: 0, noNaN: true }), { minLength: 2, maxLength: 8 }),
    thresholds: fc.array(fc.constantFrom(-Infinity, -6, -5, -3), { minLength: 8, maxLength: 8 }),
  });
  const check = ({ losses, thresholds }: { losses: number[]; thresholds: number[] }) => {
    const rows = losses.map((loss, r) => row(r / 10, 10 ** loss, thresholds[r]!));
    const grid = Array.from({ length: 60 }, (_, i) => interpolate({ rows, scale: 1 }, 10 ** (-7 + i / 7))[0]!);
    for (let i = 1; i < grid.length; i++) {
      assert.ok(grid[i]! >= grid[i - 1]! - 1e-12, `${grid[i - 1]} and then ${grid[i]}`);
      if (i < 10) assert.ok(grid[i]! > grid[i - 1]!, `${grid[i]} below the table`);
    }
  };
  fc.assert(fc.property(cases, check), { numRuns: 200 });
});

test('a stage that never merges in the table never does', async () => {
  const idle: BudgetTable = {
    rows: table.rows.map((r) => ({ ...r, thresholds: [r.thresholds[0]!, -Infinity] })),
    scale: 1,
  };
  for (const [first, second] of await inGraph(idle, [1e-6, 1e-3, 1])) {
    assert.ok(first! > -20);
    assert.ok(second! <= -1e4);
  }
});

test('of rows with one loss the boldest counts', () => {
  const tied: BudgetTable = { rows: [row(0.1, 1e-3, -8), row(0.2, 1e-3, -6), row(0.3, 1e-2, -4)], scale: 1 };
  near(interpolate(tied, 1e-3), [-6], 'at the tie');
  near(interpolate(tied, 1e-4), [-8], 'a decade below it');
});

test('the budget of a FLOPs target leads back to it', () => {
  assert.ok(Math.abs(budgetFor(table, 0.3) - 1e-3) < 1e-12);
  assert.ok(Math.abs(budgetFor(table, 0.4) - Math.sqrt(1e-3 * 1e-2)) < 1e-9);
  assert.ok(Math.abs(budgetFor({ ...table, scale: 0.5 }, 0.3) - 2e-3) < 1e-12);
  assert.ok(Math.abs(budgetFor(table, 0) - 1e-4) < 1e-12);
  assert.ok(Math.abs(budgetFor(table, 0.99) - 2e-2) < 1e-12);
});

test('a table that means nothing is refused by name', () => {
  assert.throws(() => interpolate({ rows: [], scale: 1 }, 1), /the budget table has no rows/);
  assert.throws(() => interpolate({ ...table, scale: 0 }, 1), /scale is 0, expected a positive number/);
  assert.throws(() => interpolate({ rows: [row(0.1, NaN, 1)], scale: 1 }, 1), /row 0 .* loss NaN/);
  const uneven = { rows: [row(0.1, 1e-3, 1), row(0.2, 1e-2, 1, 2)], scale: 1 };
  assert.throws(() => interpolate(uneven, 1), /row 1 .* thresholds \[1, 2\], expected 1 numbers/);
});
