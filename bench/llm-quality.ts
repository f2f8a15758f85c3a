/**
 * npm run bench:llm-quality [-- --model DIR --data DATA --test-data DATA] [--json FILE] [--seeds N] [--samples N] [--tests N] [--window N] [--quick]
 *
 * A language model pruned without any fine-tuning, measured on documents that the pruner never saw (by default the bundled model and text).
 * First: does a certified budget of nats per token hold, and what does it save? Then: what does every policy for heads and neurons lose at 20,
 * 30 and 40 % fewer parameters in the blocks? Planning, certification and measurement are the pruner's own.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { createRuntime } from '../libs/runtime/runtime.js';
import { barOf, printBars, writeOutcome, type Bar } from './support/outcome.js';
import {
  budgets,
  shares,
  textBudgetRows,
  textPolicyRows,
  type TextBudgetRow,
  type TextPolicyRow,
} from './support/text-rows.js';
import { demoText, openTextSubject } from './support/text-subject.js';

const { values: options } = parseArgs({
  options: {
    model: { type: 'string' },
    data: { type: 'string' },
    'test-data': { type: 'string' },
    json: { type: 'string' },
    seeds: { type: 'string' },
    samples: { type: 'string' },
    tests: { type: 'string' },
    window: { type: 'string' },
    quick: { type: 'boolean', default: false },
  },
});
const seeds = Array.from({ length: Number(options.seeds ?? (options.quick ? 1 : 3)) }, (_, seed) => seed);
const tests = Number(options.tests ?? (options.quick ? 50 : 200));
const wanted = options.samples ?? (options.quick ? '150' : undefined);
/** Nine in ten: the bounds are of 95 %. */
const expected = 0.9;
const unitSets = [
  ['heads', 'neurons'],
  ['heads', 'neurons', 'bits'],
];

const folder = await mkdtemp(join(tmpdir(), 'heartwood-bench-'));
const runtime = createRuntime({ workers: 1 });
const context = { runtime, workDirectory: join(folder, 'work'), signal: new AbortController().signal };
const rows: (TextBudgetRow | TextPolicyRow)[] = [];
const bars: Bar[] = [];
try {
  const { model = demoText.model, data = demoText.data, 'test-data': testData = demoText.testData } = options;
  const number = (value: string | undefined) => (value === undefined ? undefined : Number(value));
  const sizes = { seeds, tests, samples: number(wanted), window: number(options.window) };
  const subject = await openTextSubject({ model, data, testData }, sizes, context);
  for (const units of unitSets) {
    const found = await textBudgetRows(subject, units);
    printBudgets(found, subject.testWindows);
    rows.push(...found);
    const held = found.filter(({ outcome }) => outcome === 'held').length;
    const name = `${subject.name}: budgets held by ${units.join(', ')}, of ${found.length}`;
    bars.push(barOf(name, held, '>=', Math.ceil(expected * found.length)));
  }
  const found = await textPolicyRows(subject);
  printPolicies(found);
  rows.push(...found);
  bars.push(...policyBars(subject.name, found));
} finally {
  await runtime.close();
  await rm(folder, { recursive: true, force: true });
}
printBars(bars);
await writeOutcome(options.json, { bench: 'llm-quality', rows, bars });

function percent(value: number | null): string {
  return value === null ? '' : `${(100 * value).toFixed(1)} %`;
}

function tableOf(head: string[]): Table.Table {
  return new Table({
    head,
    colAligns: head.map((_, at) => (at === 0 ? 'left' : 'right')),
    style: { head: [], border: [], compact: true },
  });
}

function printBudgets(found: readonly TextBudgetRow[], windows: number): void {
  const [first] = found;
  if (!first) return;
  const dense = found.find(({ loss }) => loss)?.loss?.densePerplexity;
  console.log(
    `\n${first.model}, ${first.units}: nats per token on ${windows} windows of unseen documents` +
      (dense === undefined ? '' : `, perplexity of version 1 ${dense.toFixed(3)}`),
  );
  const table = tableOf([
    'budget',
    'seed',
    'bound',
    'mean KL',
    'ΔNLL',
    'perplexity',
    'block parameters',
    'bytes a token',
    '',
  ]);
  for (const { budget, seed, bound, loss, parametersSaved, bytesSaved, outcome } of found) {
    const nats = (value: number | null | undefined) => (value === null || value === undefined ? '' : value.toFixed(4));
    const saved = (value: number | null) => (value === null ? '' : `−${percent(value)}`);
    const perplexity = loss?.perplexity.toFixed(3) ?? '';
    table.push([
      budget,
      seed,
      nats(bound),
      nats(loss?.kl),
      nats(loss?.rise),
      perplexity,
      saved(parametersSaved),
      saved(bytesSaved),
      outcome,
    ]);
  }
  console.log(table.toString());
  for (const budget of budgets) {
    const own = found.filter((row) => row.budget === budget);
    const count = (outcome: TextBudgetRow['outcome']) => own.filter((row) => row.outcome === outcome).length;
    console.log(`budget ${budget}: ${count('held')} held, ${count('exceeded')} exceeded, ${count('refused')} refused`);
  }
}

function printPolicies(found: readonly TextPolicyRow[]): void {
  const [first] = found;
  if (!first) return;
  console.log(
    `\n${first.model}: no fine-tuning; KL ×10⁻³ ± spread over ${seeds.length} seeds, and perplexity` +
      ` (version 1: ${first.loss.densePerplexity.toFixed(3)})`,
  );
  const table = tableOf(['policy', ...shares.flatMap((share) => [`KL at −${100 * share} %`, 'perplexity'])]);
  for (const policy of new Set(found.map((row) => row.policy))) {
    const cells = shares.flatMap((share) => {
      const row = found.find((one) => one.policy === policy && one.share === share);
      if (!row) return ['beyond it', ''];
      return [
        `${(1e3 * row.loss.kl).toPrecision(3)} ± ${(1e3 * row.klSpread).toPrecision(2)}`,
        row.loss.perplexity.toFixed(3),
      ];
    });
    table.push([policy, ...cells]);
  }
  console.log(table.toString());
}

function policyBars(model: string, found: readonly TextPolicyRow[]): Bar[] {
  return shares.flatMap((share) => {
    const at = found.filter((row) => row.share === share);
    const own = at.find(({ policy }) => policy === 'curvature');
    const best = Math.min(...at.filter(({ policy }) => policy !== 'curvature').map(({ loss }) => loss.kl));
    if (!own || best === Infinity) return [];
    const name = `${model}: KL of curvature at −${100 * share} % of the blocks' parameters, of the best other policy's`;
    return [barOf(name, own.loss.kl / best, '<=', 1)];
  });
}
