/**
 * npm run bench:budget [-- --model DIR --data DATA [--test-data DATA]] [--json FILE] [--seeds N] [--tests N] [--samples N] [--quick]
 *
 * Does a certified budget hold? For several budgets and seeds: tokens are pruned as the pruner does it (score, fit, search, certify;
 * nothing is published), and the mean KL(dense ‖ pruned) is measured at that budget on samples that the pruner never saw.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { createRuntime } from '../libs/runtime/runtime.js';
import { budgetRows, budgets, type BudgetRow } from './support/budget-rows.js';
import { barOf, printBars, writeOutcome, type Bar } from './support/outcome.js';
import { openSubject } from './support/pruning-bench.js';
import { demoSubject, subjectsOf } from './support/subjects.js';

const { values: options } = parseArgs({
  options: {
    model: { type: 'string' },
    data: { type: 'string' },
    'test-data': { type: 'string' },
    json: { type: 'string' },
    seeds: { type: 'string' },
    tests: { type: 'string' },
    samples: { type: 'string' },
    quick: { type: 'boolean', default: false },
  },
});
/** Seeds of the bundled model, and of the other one, which takes several times as long. */
const manySeeds = Number(options.seeds ?? (options.quick ? 2 : 10));
const fewSeeds = Number(options.seeds ?? (options.quick ? 1 : 2));
const tests = Number(options.tests ?? 1000);
/** Nine in ten: the bounds are of 95 %. */
const expected = 0.9;

const folder = await mkdtemp(join(tmpdir(), 'heartwood-bench-'));
const runtime = createRuntime({ workers: 1 });
const context = { runtime, workDirectory: join(folder, 'work'), signal: new AbortController().signal };
const rows: BudgetRow[] = [];
const bars: Bar[] = [];
try {
  const { model, data, 'test-data': testData } = options;
  for (const subject of await subjectsOf({ model, data, testData }, folder)) {
    const count = subject.model === demoSubject.model ? manySeeds : fewSeeds;
    const seeds = Array.from({ length: count }, (_, seed) => seed);
    const samples = options.samples === undefined ? {} : { samples: Number(options.samples) };
    const opened = await openSubject(subject, { seeds, tests, ...samples }, context);
    try {
      const found = await budgetRows(opened, context);
      print(found);
      rows.push(...found);
      const held = found.filter(({ outcome }) => outcome === 'held').length;
      const limit = Math.ceil(expected * found.length);
      bars.push(barOf(`${subject.name}: budgets held, of ${found.length}`, held, '>=', limit));
    } finally {
      await opened.dispose();
    }
  }
} finally {
  await runtime.close();
  await rm(folder, { recursive: true, force: true });
}
printBars(bars);
await writeOutcome(options.json, { bench: 'budget', rows, bars });

function print(found: readonly BudgetRow[]): void {
  const [first] = found;
  if (!first) return;
  console.log(`\n${first.model}: nats per sample; measured on ${first.tests} samples that the pruner never saw`);
  const head = ['budget', 'seed', 'bound', 'measured', 'FLOPs saved', 'accuracy', ''];
  const table = new Table({
    head,
    colAligns: head.map(() => 'right'),
    style: { head: [], border: [], compact: true },
  });
  const number = (value: number | null) => (value === null ? '' : value.toPrecision(3));
  const percent = (value: number | null) => (value === null ? '' : `${(100 * value).toFixed(1)} %`);
  for (const budget of budgets) {
    for (const row of found.filter((one) => one.budget === budget)) {
      const { seed, bound, measured, flopsSaved, accuracy, outcome } = row;
      table.push([budget, seed, number(bound), number(measured), percent(flopsSaved), percent(accuracy), outcome]);
    }
  }
  console.log(table.toString());
  for (const budget of budgets) {
    const own = found.filter((row) => row.budget === budget);
    const count = (outcome: BudgetRow['outcome']) => own.filter((row) => row.outcome === outcome).length;
    console.log(`budget ${budget}: ${count('held')} held, ${count('exceeded')} exceeded, ${count('refused')} refused`);
  }
}
