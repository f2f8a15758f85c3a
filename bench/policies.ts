/**
 * npm run bench:policies [-- --model DIR --data DATA [--test-data DATA]] [--json FILE] [--seeds N] [--tests N] [--samples N] [--quick]
 *
 * What every policy loses without any fine-tuning when it saves 30, 50 and 65 % of the FLOPs: mean KL(dense ‖ pruned) and accuracy on
 * samples that the pruner never saw, by seeds that change the calibration samples and the fit. Score, fit, stages, thresholds
 * and measurement are the pruner's own; labels of the inputs that are pruned are used for accuracy alone.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { createRuntime } from '../libs/runtime/runtime.js';
import { policyRows, shares, type PolicyRow } from './support/policy-rows.js';
import { openSubject } from './support/pruning-bench.js';
import { barOf, printBars, writeOutcome, type Bar } from './support/outcome.js';
import { subjectsOf } from './support/subjects.js';

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
const seeds = Array.from({ length: Number(options.seeds ?? (options.quick ? 1 : 3)) }, (_, seed) => seed);
const tests = Number(options.tests ?? (options.quick ? 300 : 1000));
const samples = options.samples ?? (options.quick ? '600' : undefined);

/** KL of the default, at most so many times that of another policy. */
const cifarBars = [
  { share: 0.3, against: 'tome', bar: 0.5 },
  { share: 0.5, against: 'tome', bar: 0.6 },
  { share: 0.65, against: 'tome', bar: 0.9 },
  { share: 0.5, against: 'attention', bar: 0.05 },
];
const otherBars = shares.map((share) => ({ share, against: 'tome', bar: 1 }));

const folder = await mkdtemp(join(tmpdir(), 'heartwood-bench-'));
const runtime = createRuntime({ workers: 1 });
const context = { runtime, workDirectory: join(folder, 'work'), signal: new AbortController().signal };
const rows: PolicyRow[] = [];
const bars: Bar[] = [];
try {
  const { model, data, 'test-data': testData } = options;
  for (const subject of await subjectsOf({ model, data, testData }, folder)) {
    const sizes = { seeds, tests, ...(samples === undefined ? {} : { samples: Number(samples) }) };
    const opened = await openSubject(subject, sizes, context);
    try {
      const found = await policyRows(opened, context);
      print(found);
      rows.push(...found);
      bars.push(...barsOf(subject.name, found));
    } finally {
      await opened.dispose();
    }
  }
} finally {
  await runtime.close();
  await rm(folder, { recursive: true, force: true });
}
printBars(bars);
await writeOutcome(options.json, { bench: 'policies', rows, bars });

function print(found: readonly PolicyRow[]): void {
  const [first] = found;
  if (!first) return;
  const percent = (value: number | null) => (value === null ? '' : (100 * value).toFixed(1));
  console.log(
    `\n${first.model}: KL to the dense model ×10⁻³ ± spread over ${seeds.length} seeds, and accuracy in %` +
      ` (dense ${percent(first.denseAccuracy)}), ${first.tests} test samples`,
  );
  const head = ['policy', ...shares.flatMap((share) => [`KL at −${100 * share} %`, 'acc'])];
  const table = new Table({
    head,
    colAligns: head.map((_, at) => (at === 0 ? 'left' : 'right')),
    style: { head: [], border: [], compact: true },
  });
  for (const policy of new Set(found.map((row) => row.policy))) {
    const cells = shares.flatMap((share) => {
      const row = found.find((one) => one.policy === policy && one.share === share);
      if (!row) return ['beyond it', ''];
      return [
        `${digits(1e3 * row.kl)} ± ${row.klSpread < 1e-9 ? 0 : digits(1e3 * row.klSpread)}`,
        percent(row.accuracy),
      ];
    });
    table.push([policy, ...cells]);
  }
  console.log(table.toString());
}

/** Three significant digits, at most five decimals. */
function digits(value: number): string {
  if (value === 0) return '0';
  return value.toFixed(Math.min(5, Math.max(0, 2 - Math.floor(Math.log10(value)))));
}

function barsOf(model: string, found: readonly PolicyRow[]): Bar[] {
  const at = (policy: string, share: number) => found.find((row) => row.policy === policy && row.share === share);
  const ratios = (model === 'vit-cifar10' ? cifarBars : otherBars).flatMap(({ share, against, bar }) => {
    const [own, other] = [at('curvature', share), at(against, share)];
    if (!own || !other) return [];
    return [barOf(`${model}: KL of curvature at −${100 * share} %, of ${against}'s`, own.kl / other.kl, '<=', bar)];
  });
  const half = found.filter(({ share }) => share === 0.5);
  const own = at('curvature', 0.5);
  if (!own || own.accuracy === null || own.denseAccuracy === null) return ratios;
  const reached = own.accuracy;
  const best = Math.max(...half.map(({ accuracy }) => accuracy ?? 0));
  const points = (reference: number) => 100 * (reference - reached);
  return [
    ...ratios,
    barOf(`${model}: points of accuracy at −50 % below dense`, points(own.denseAccuracy), '<=', 1),
    barOf(`${model}: points of accuracy at −50 % below the best policy`, points(best), '<=', 1),
  ];
}
