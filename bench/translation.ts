/**
 * npm run bench:translation [-- --json FILE] [--rounds N] [--threads N]
 *
 * Whether FLOPs that are saved become time: ViT-B/16 with random weights, dense against dynamic at 30 % and 50 % fewer FLOPs, and the dense
 * network against the same one as an ordinary export would be run (canonical graph, all of the runtime's own optimisations). The networks
 * take turns on the same images; every ratio is of two runs of one round, and the medians of the ratios are reported.
 *
 * Random weights know no curvature, so the stages have random parameters of the shapes that the pruner fits; thresholds are placed by the
 * pruner's own code. FLOPs are counted for the tokens that each sample of each run kept, predictors and matching included; what padding
 * and packing cost is not counted as work.
 *
 * The ceiling at batch 1 is that of the matrix products: the weights are read once a run, however few the tokens. On one core of a 2-core
 * machine a plain dense ViT-B of 101, 65 and 50 tokens had 0.97, 0.93 and 0.90 of the FLOP/s that it had with 197.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { openCheckpoint, type Checkpoint } from '../libs/models/checkpoint.js';
import { buildClassifier } from '../libs/models/classifier.js';
import { vitBase, writeRandomCheckpoint } from '../libs/models/testing/random-checkpoint.js';
import { countFlops } from '../libs/onnx/flops.js';
import type { Graph } from '../libs/onnx/ir.js';
import { denseGraph, servedGraph, tensorNames } from '../libs/pruning/served-graph.js';
import { stageBlocks } from '../libs/pruning/statistics/schedule.js';
import { loadGraph } from '../libs/runtime/load-graph.js';
import { createRuntime, type Runtime, type Session } from '../libs/runtime/runtime.js';
import type { TensorValue } from '../libs/runtime/tensor.js';
import { median } from '../libs/pruning/statistics/quantiles.js';
import { barOf, printBars, writeOutcome, type Bar } from './support/outcome.js';
import { imagesOf, placedTable, randomStages } from './support/random-stages.js';

/** Shares of the FLOPs to save, and the batches: rounds are fewer where a run takes longer. */
const shares = [0.3, 0.5];
const batches = [
  { batch: 1, rounds: 30 },
  { batch: 8, rounds: 12 },
];
/** A busy machine gets through fewer rounds in this time, milliseconds a batch size; never through fewer than so many. */
const timeLimit = 100e3;
const leastRounds = 3;
/** What HEART-ViT (arXiv 2512.20120) published: 36 % less time at 49.4 % fewer FLOPs on its device. */
const published = 1 / (1 - 0.36) / (1 / (1 - 0.494));
const leastEfficiency = 0.95;

interface Row {
  readonly network: string;
  readonly batch: number;
  readonly medianMs: number;
  /** Of a sample, mean over the runs, 10⁹. */
  readonly gflop: number;
  readonly flopsSaved: number;
  /** Median over the runs: time of the dense network over that of this one, on the same images. */
  readonly speedUp: number;
  /** Speed-up ÷ ratio of the FLOPs, run by run; null where no FLOPs are saved. */
  readonly efficiency: number | null;
  /** Tokens that each stage kept, means. */
  readonly kept: readonly number[];
  /** Greatest resident set of the process so far, with the sessions of all networks in it. */
  readonly peakMiB: number;
}

/** One network that takes its turns. */
interface Contestant {
  readonly network: string;
  readonly graph: Graph;
  readonly session: Session;
  readonly budget: number | undefined;
  readonly runs: Run[];
}

interface Run {
  readonly ms: number;
  /** Of the whole batch. */
  readonly flops: number;
  /** [batch][stages]. */
  readonly kept: readonly (readonly number[])[];
}

const { values: options } = parseArgs({
  options: { json: { type: 'string' }, rounds: { type: 'string' }, threads: { type: 'string' } },
});
const folder = await mkdtemp(join(tmpdir(), 'heartwood-bench-'));
const threads = Math.max(1, Number(options.threads ?? availableParallelism()));
const runtime = createRuntime({ workers: 1, threads, spinning: true });
const rows: Row[] = [];
const bars: Bar[] = [];
try {
  const checkpoint = await openCheckpoint(await writeRandomCheckpoint(join(folder, 'vit-base'), vitBase));
  const contestants = await load(runtime, checkpoint);
  for (const { batch, rounds } of batches) {
    for (const { runs } of contestants) runs.length = 0;
    const count = Math.max(1, Number(options.rounds ?? rounds));
    const began = performance.now();
    let round = 0;
    // The first round warms up and is not counted; every other one goes backwards, so that no network is always the first.
    for (; round <= count; round++) {
      if (round > leastRounds && performance.now() - began > timeLimit) break;
      const pixels = imagesOf(batch, vitBase.imageSize, 1000 + round);
      const turns = round % 2 === 0 ? contestants : [...contestants].reverse();
      for (const contestant of turns) {
        const run = await runOnce(contestant, pixels, batch);
        if (round > 0) contestant.runs.push(run);
      }
    }
    console.error(`batch ${batch}: ${round - 1} rounds`);
    report(contestants, batch);
  }
  await Promise.all([...new Set(contestants.map(({ session }) => session))].map((session) => session.dispose()));
} finally {
  await runtime.close();
  await rm(folder, { recursive: true, force: true });
}
print();
await writeOutcome(options.json, { bench: 'translation', rows, bars });

/** The networks in the order of their turns, dense between those that are compared with it. Stages sit where the pruner puts them. */
async function load(runtime: Runtime, checkpoint: Checkpoint): Promise<Contestant[]> {
  const work = join(folder, 'graphs');
  const open = async (network: string, graph: Graph, budget?: number): Promise<Contestant> => {
    const session = await loadGraph(runtime, graph, work, { optimization: 'all' });
    await runOnce({ session, graph, budget }, imagesOf(1, vitBase.imageSize, 1), 1);
    console.error(`loaded ${network}`);
    return { network, graph, session, budget, runs: [] };
  };
  const { g, logits } = buildClassifier(checkpoint, { lowering: 'canonical' });
  const canonical = await open('canonical', g.build([g.named(tensorNames.logits, logits)]));
  const dense = await open('dense', denseGraph(checkpoint));
  const stages = randomStages(vitBase.hidden, stageBlocks(vitBase.layers));
  const table = await placedTable(runtime, checkpoint, stages, shares, work);
  const budgets = table.rows.map(({ kl }) => kl);
  const dynamic = await open('dynamic', servedGraph(checkpoint, new Map(), stages, table), budgets[0]);
  // One session, two budgets.
  return [
    canonical,
    dense,
    ...shares.map((share, at): Contestant => ({
      ...dynamic,
      network: dynamicName(share),
      budget: budgets[at],
      runs: [],
    })),
  ];
}

function dynamicName(share: number): string {
  return `dynamic, ${Math.round(100 * share)} % fewer`;
}

async function runOnce(
  { session, graph, budget }: Pick<Contestant, 'session' | 'graph' | 'budget'>,
  pixels: TensorValue,
  batch: number,
): Promise<Run> {
  const feeds: Record<string, TensorValue> = { [tensorNames.pixels]: pixels };
  if (session.inputs.some(({ name }) => name === tensorNames.budget)) {
    feeds[tensorNames.budget] = { type: 'float32', dims: [batch, 1], data: new Float32Array(batch).fill(budget ?? 0) };
  }
  const { outputs, durationMs } = await session.runTimed(feeds);
  const tokens = outputs[tensorNames.kept];
  const stages = tokens?.dims[1] ?? 0;
  const kept = Array.from({ length: batch }, (_, row) =>
    tokens ? Array.from((tokens.data as Int32Array).subarray(row * stages, (row + 1) * stages)) : [],
  );
  return { ms: durationMs, flops: kept.reduce((sum, counts) => sum + sampleFlops(graph, counts), 0), kept };
}

/** FLOPs of a sample alone of which the stages kept so many tokens. */
function sampleFlops(graph: Graph, kept: readonly number[]): number {
  const symbols: Record<string, number> = { B: 1, half: 0.5 };
  for (const [stage, block] of stageBlocks(vitBase.layers).entries()) {
    const count = kept[stage];
    if (count !== undefined) symbols[`rows_${block}`] = symbols[`longest_${block}`] = count;
  }
  return countFlops(graph, symbols).total;
}

function report(contestants: readonly Contestant[], batch: number): void {
  const dense = contestants.find(({ network }) => network === 'dense')!;
  for (const { network, runs, budget } of contestants) {
    const speedUps = runs.map(({ ms }, at) => dense.runs[at]!.ms / ms);
    const efficiencies = speedUps.map((speedUp, at) => (speedUp * runs[at]!.flops) / dense.runs[at]!.flops);
    const saved = runs.map(({ flops }, at) => 1 - flops / dense.runs[at]!.flops);
    const counts = runs.flatMap(({ kept }) => kept);
    rows.push({
      network,
      batch,
      medianMs: median(runs.map(({ ms }) => ms)),
      gflop: mean(runs.map(({ flops }) => flops)) / batch / 1e9,
      flopsSaved: mean(saved),
      speedUp: median(speedUps),
      efficiency: budget === undefined ? null : median(efficiencies),
      kept: (counts[0] ?? []).map((_, stage) => mean(counts.map((row) => row[stage]!))),
      peakMiB: process.resourceUsage().maxRSS / 1024,
    });
    if (budget !== undefined) {
      const name = `batch ${batch}, ${network}: speed-up ÷ ratio of the FLOPs`;
      bars.push(barOf(name, median(efficiencies), '>=', leastEfficiency));
    }
    if (network === 'canonical') {
      const fused = median(speedUps.map((speedUp) => 1 / speedUp));
      bars.push(barOf(`batch ${batch}: time of canonical ÷ time of fused`, fused, '>=', 1));
    }
  }
}

function print(): void {
  const head = ['batch', 'network', 'ms', 'GFLOP', 'saved', 'kept', 'speed-up', '÷ FLOPs', 'peak MiB'];
  const table = new Table({ head });
  for (const { network, batch, medianMs, gflop, flopsSaved, kept, speedUp, efficiency, peakMiB } of rows) {
    table.push([
      batch,
      network,
      medianMs.toFixed(0),
      gflop.toFixed(1),
      `${(100 * flopsSaved).toFixed(1)} %`,
      kept.map((tokens) => tokens.toFixed(0)).join(' '),
      speedUp.toFixed(2),
      efficiency?.toFixed(3) ?? '',
      peakMiB.toFixed(0),
    ]);
  }
  console.log(table.toString());
  console.log(`ViT-B/16, random weights, ${threads} threads. HEART-ViT published ${published.toFixed(2)} for ÷ FLOPs.`);
  printBars(bars);
}

function mean(numbers: readonly number[]): number {
  return numbers.reduce((sum, value) => sum + value, 0) / numbers.length;
}
