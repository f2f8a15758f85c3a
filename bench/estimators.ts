/**
 * node scripts/bench.mjs estimators [--json FILE] [--model DIR] [--data DATA] [--window T] [--samples N] [--probes K] [--skip-slow]
 *
 * Which estimator of curvature is the best for which unit: its error against `exact` and its time, one unit at a time, and from both
 * the time that it takes to an error of 10 % (the error of random probes falls with the square root of their number). `--skip-slow` leaves
 * out what takes a product for each neuron. A language model is measured on windows of T tokens.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, cpus, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { defaultEstimator } from '../libs/curvature/defaults.js';
import { ESTIMATORS, type EstimatorKind } from '../libs/curvature/estimators.js';
import { LOSSES, losses, type Loss } from '../libs/curvature/losses.js';
import { networkOf } from '../libs/curvature/networks.js';
import { scoreCheckpoint } from '../libs/curvature/score.js';
import { openDataset } from '../libs/data/open.js';
import { permutation, randomFor } from '../libs/data/random.js';
import { taskOf } from '../libs/models/architectures/index.js';
import { openCheckpoint } from '../libs/models/checkpoint.js';
import { GATE_KINDS, type GateKind } from '../libs/models/gates.js';
import { openWindows } from '../libs/pruning/text/data.js';
import { createRuntime } from '../libs/runtime/runtime.js';

interface Row {
  readonly loss: Loss;
  readonly unit: GateKind;
  readonly estimator: EstimatorKind;
  /** Directions a sample. */
  readonly probes: number;
  readonly secondsPerSample: number;
  /** ‖curvature − exact‖ / ‖exact‖, over the gates of all samples; 0 for exact itself. */
  readonly error: number;
  /** Seconds a sample to an error of 10 %, with as many probes as that takes (the time of exact is what it is). */
  readonly secondsToTenPercent: number;
  readonly isDefault: boolean;
}

const { values: options } = parseArgs({
  options: {
    json: { type: 'string' },
    model: { type: 'string', default: 'models/demo-digits' },
    data: { type: 'string', default: 'demo:digits' },
    window: { type: 'string', default: '64' },
    samples: { type: 'string', default: '4' },
    probes: { type: 'string', default: '32' },
    'skip-slow': { type: 'boolean', default: false },
  },
});
const probes = Number(options.probes);
const aim = 0.1;
/** A default may be this much slower than the best: the difference is within the noise of a shared machine. */
const slack = 2;
const checkpoint = await openCheckpoint(options.model);
const dataset =
  taskOf(checkpoint) === 'text-generation'
    ? await openWindows(checkpoint, options.data, Number(options.window))
    : await openDataset(options.data, checkpoint.preprocessing, { classes: checkpoint.labels });
const indices = [...permutation(dataset.size, randomFor(1)).slice(0, Number(options.samples))];
const workDirectory = await mkdtemp(join(tmpdir(), 'heartwood-bench-'));
const runtime = createRuntime();
const rows: Row[] = [];
try {
  for (const loss of LOSSES) for (const unit of GATE_KINDS) await compare(loss, unit);
} finally {
  await runtime.close();
  await rm(workDirectory, { recursive: true, force: true });
}

const bars = LOSSES.flatMap((loss) =>
  GATE_KINDS.flatMap((unit) => {
    const mine = rows.filter((row) => row.loss === loss && row.unit === unit);
    const chosen = mine.find((row) => row.isDefault);
    if (!chosen) return [];
    const value = chosen.secondsToTenPercent / Math.min(...mine.map((row) => row.secondsToTenPercent));
    const name = `${unit}, ${loss}: time to 10 % of the default (${chosen.estimator}), of the best`;
    return [{ name, value, relation: '<=' as const, bar: slack, holds: value <= slack }];
  }),
);
const table = new Table({
  head: ['loss', 'unit', 'estimator', 'probes', 'ms/sample', 'error', 'ms to 10 %', 'default'],
  style: { head: [], border: [], compact: true },
});
for (const row of rows) {
  const { loss, unit, estimator, error, isDefault } = row;
  const times = [row.secondsPerSample, row.secondsToTenPercent].map((seconds) => (1000 * seconds).toPrecision(3));
  table.push([
    loss,
    unit,
    estimator,
    row.probes,
    times[0]!,
    `${(100 * error).toFixed(1)} %`,
    times[1]!,
    isDefault ? '←' : '',
  ]);
}
console.log(table.toString());
for (const { name, value, relation, bar, holds } of bars) {
  console.log(`${holds ? 'holds ' : 'MISSES'}  ${name}: ${value.toFixed(2)} ${relation} ${bar}`);
}
if (options.json) {
  const machine = {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: availableParallelism(),
    memoryGiB: totalmem() / 2 ** 30,
    node: process.version,
    model: checkpoint.directory.split('/').at(-1),
    data: dataset.name,
    samples: indices.length,
  };
  await writeFile(options.json, `${JSON.stringify({ bench: 'estimators', machine, rows, bars }, null, 2)}\n`);
}

/** All estimators of one unit under one loss. */
async function compare(loss: Loss, unit: GateKind): Promise<void> {
  // Text has more logits than a window has gates, so under either loss its neurons take a product each.
  const slow = unit === 'neurons' && (loss === 'cross-entropy' || taskOf(checkpoint) === 'text-generation');
  if (slow && options['skip-slow']) return;
  let truth: readonly number[] = [];
  for (const estimator of ESTIMATORS) {
    if (estimator === 'output-sketch' && !losses[loss].sketch) continue;
    const { curvature, used, secondsPerSample } = await timed(loss, unit, estimator);
    if (estimator === 'exact') truth = curvature;
    const error = estimator === 'exact' ? 0 : relative(curvature, truth);
    rows.push({
      loss,
      unit,
      estimator,
      probes: used,
      secondsPerSample,
      error,
      secondsToTenPercent: estimator === 'exact' ? secondsPerSample : secondsPerSample * (error / aim) ** 2,
      isDefault: defaultEstimator(unit, loss, networkOf(checkpoint, dataset)).kind === estimator,
    });
  }
}

/** Time counts from the end of the first run, which has warmed up what is allocated. */
async function timed(loss: Loss, unit: GateKind, estimator: EstimatorKind) {
  const events: { at: number; done: number; total: number }[] = [];
  const scores = await scoreCheckpoint(
    {
      checkpoint,
      dataset,
      indices,
      units: [unit],
      loss,
      estimator,
      probes,
      seed: 1,
      batch: Math.max(1, indices.length >> 1),
    },
    { runtime, workDirectory, progress: ({ done, total }) => events.push({ at: performance.now(), done, total }) },
  );
  const [first, last] = [events[0]!, events.at(-1)!];
  const perDirection = (last.at - first.at) / 1000 / (last.done - first.done);
  return {
    curvature: scores.units[unit]!.curvature,
    used: scores.estimator.probes,
    secondsPerSample: (perDirection * last.total) / indices.length,
  };
}

function relative(actual: readonly number[], expected: readonly number[]): number {
  let [difference, norm] = [0, 0];
  expected.forEach((value, i) => {
    difference += (actual[i]! - value) ** 2;
    norm += value ** 2;
  });
  return Math.sqrt(difference / norm);
}
