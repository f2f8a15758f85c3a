/**
 * npm run bench:prediction [-- --json FILE] [--only demo-brown|demo-digits] [--seed N] [--windows N] [--test-windows N] [--images N] [--test-images N]
 *
 * How well is the loss of removing many heads and neurons foretold, and where does it go wrong? On the bundled models, of two orders (second order
 * alone, and with loss and slopes measured on the way): what the order itself foretells, the same quadratic form by other random directions
 * and by other samples, without interactions, the KL at parts of the way, and what is measured on samples that nothing was made from.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { createRuntime } from '../libs/runtime/runtime.js';
import { barOf, printBars, writeOutcome, type Bar } from './support/outcome.js';
import { predictionRows, shares, type PredictionRow } from './support/prediction-rows.js';
import { imagePrediction, textPrediction } from './support/prediction-subjects.js';

const { values: options } = parseArgs({
  options: {
    json: { type: 'string' },
    only: { type: 'string' },
    seed: { type: 'string', default: '0' },
    windows: { type: 'string', default: '120' },
    'test-windows': { type: 'string', default: '40' },
    images: { type: 'string', default: '1000' },
    'test-images': { type: 'string', default: '500' },
  },
});
const sizes = {
  seed: Number(options.seed),
  windows: Number(options.windows),
  testWindows: Number(options['test-windows']),
  images: Number(options.images),
  testImages: Number(options['test-images']),
};

const subjects = { 'demo-brown': textPrediction, 'demo-digits': imagePrediction };
const folder = await mkdtemp(join(tmpdir(), 'heartwood-bench-'));
const runtime = createRuntime({ workers: 1 });
const context = { runtime, workDirectory: join(folder, 'work'), signal: new AbortController().signal };
const rows: PredictionRow[] = [];
try {
  for (const [name, open] of Object.entries(subjects)) {
    if (options.only !== undefined && options.only !== name) continue;
    const subject = await open(sizes, context);
    const found = await predictionRows(subject, context);
    await subject.test.dispose();
    print(found);
    rows.push(...found);
  }
} finally {
  await runtime.close();
  await rm(folder, { recursive: true, force: true });
}
const bars = barsOf(rows);
printBars(bars);
await writeOutcome(options.json, { bench: 'prediction', rows, bars });

function print(found: readonly PredictionRow[]): void {
  const [first] = found;
  if (!first) return;
  console.log(`\n${first.model}: nats ×10⁻³ of removing heads and neurons`);
  const head = ['order', 'less', 'units', 'heads', 'own', 'other signs', 'other samples', 'no interactions'];
  const table = new Table({
    head: [...head, 'within blocks', '⅛ way', '¼ way', '½ way', 'searched', 'measured'],
    colAligns: ['left'],
    style: { head: [], border: [], compact: true },
  });
  for (const row of found) {
    const { own, sameSamples, otherSamples, alone, withinBlocks, partly, searched, measured } = row;
    table.push([
      ...[row.order, `${Math.round(100 * row.share)} %`, row.units, row.heads],
      ...[own, sameSamples, otherSamples, alone, withinBlocks, ...partly, searched, measured].map((nats) =>
        (1e3 * nats).toPrecision(3),
      ),
    ]);
  }
  console.log(table.toString());
}

/** What is told of a plan is within 30 % of what unseen samples say, and bearings lose less. */
function barsOf(all: readonly PredictionRow[]): Bar[] {
  return [...new Set(all.map(({ model }) => model))].flatMap((model) =>
    shares.flatMap((share) => {
      const at = (order: PredictionRow['order']) =>
        all.find((row) => row.model === model && row.share === share && row.order === order);
      const [alone, guided] = [at('second order alone'), at('bearings on the way')];
      if (!alone || !guided) return [];
      const off = (told: number) => Math.abs(Math.log(told / guided.measured));
      const what = `${model}, ${Math.round(100 * share)} % less`;
      return [
        barOf(`${what}: measured ÷ that of second order alone`, guided.measured / alone.measured, '<=', 1),
        barOf(`${what}: |log(searched ÷ measured)|`, off(guided.searched), '<=', 0.3),
        barOf(`${what}: |log(own ÷ measured)|`, off(guided.own), '<=', 0.3),
      ];
    }),
  );
}
