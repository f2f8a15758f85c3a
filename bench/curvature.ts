/**
 * npm run bench:curvature [-- --json FILE] [--rounds N] [--threads N] [--only ViT-Ti/16]
 *
 * What derivatives cost, in forward passes of the same model: ViT-Ti/16 at batch 8 and ViT-B/16 at batch 1 with random weights, gates on the
 * tokens of all blocks. All pieces of work are loaded at once and take turns, PyTorch's too where python3 has torch; medians.
 */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, cpus, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { openCheckpoint } from '../libs/models/checkpoint.js';
import { vitBase, vitTiny, writeRandomCheckpoint, type RandomShape } from '../libs/models/testing/random-checkpoint.js';
import { countFlops } from '../libs/onnx/flops.js';
import { loadGraph } from '../libs/runtime/load-graph.js';
import { createRuntime, type Runtime } from '../libs/runtime/runtime.js';
import type { TensorValue } from '../libs/runtime/tensor.js';
import { median } from '../libs/pruning/statistics/quantiles.js';
import { titleOf, workGraph, type WorkSpec } from './curvature-graphs.js';
import { startTorch, type TorchProcess } from './torch-process.js';

const many = 8;
const gates = 'tokens';
/** No further round of a model begins after this: on a busy machine there are fewer of them. */
const budgetMs = 80_000;
const works: readonly WorkSpec[] = [
  { kind: 'forward', probes: 0 },
  { kind: 'gradient', probes: 0 },
  { kind: 'Hv', probes: 1 },
  { kind: 'Hv', probes: many },
  { kind: 'KL-curvature', probes: 1 },
  { kind: 'output sketch', probes: 1 },
  { kind: 'output sketch', probes: many },
];
const models = [
  { name: 'ViT-Ti/16', shape: vitTiny, batch: 8 },
  { name: 'ViT-B/16', shape: vitBase, batch: 1 },
] as const;

interface Row {
  readonly model: string;
  readonly batch: number;
  readonly side: 'heartwood' | 'pytorch';
  readonly work: string;
  readonly probes: number;
  readonly medianMs: number;
  /** In forward passes of the same side. */
  readonly forwards: number;
  /** In 10⁹ operations; unknown for PyTorch. */
  readonly gflop: number | null;
  /** Memory of this session above what was there before, its mapped weights included; for PyTorch the process so far. */
  readonly peakMiB: number | null;
}

interface Bar {
  readonly name: string;
  readonly value: number;
  readonly relation: '<=';
  readonly bar: number;
  readonly holds: boolean;
}

/** One thing that is timed in turn with the others. */
interface Contestant {
  readonly side: Row['side'];
  readonly work: string;
  readonly probes: number;
  readonly gflop: number | null;
  readonly times: number[];
  peakMiB: number | null;
  run(): Promise<number>;
}

const { values: options } = parseArgs({
  options: {
    json: { type: 'string' },
    rounds: { type: 'string', default: '3' },
    threads: { type: 'string' },
    only: { type: 'string' },
  },
});
const rounds = Math.max(1, Number(options.rounds));
const threads = options.threads ? Number(options.threads) : availableParallelism();
const folder = await mkdtemp(join(tmpdir(), 'heartwood-bench-'));
const rows: Row[] = [];
const bars: Bar[] = [];
try {
  for (const model of models) if (options.only === undefined || options.only === model.name) await compare(model);
} finally {
  await rm(folder, { recursive: true, force: true });
}
const table = new Table({
  head: ['model', 'batch', 'side', 'work', 'ms', 'forwards', 'GFLOP', 'peak MiB'],
  style: { head: [], border: [] },
});
for (const row of rows) {
  const numbers = [row.medianMs.toFixed(0), row.forwards.toFixed(2), row.gflop?.toFixed(0), row.peakMiB?.toFixed(0)];
  table.push([
    row.model,
    row.batch,
    row.side,
    row.work,
    ...numbers.map((n) => ({ content: n ?? '', hAlign: 'right' as const })),
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
    memoryGiB: Math.round(totalmem() / 2 ** 30),
  };
  await writeFile(options.json, `${JSON.stringify({ bench: 'curvature', machine, rows, bars }, undefined, 2)}\n`);
}

async function compare({ name, shape, batch }: (typeof models)[number]): Promise<void> {
  const checkpoint = await writeRandomCheckpoint(join(folder, name.replace('/', '-')), shape);
  const runtime = createRuntime({ workers: 1, threads, spinning: true });
  const script = fileURLToPath(new URL('../../bench/pytorch/curvature.py', import.meta.url));
  const torch = await startTorch(script, [checkpoint, String(batch), gates, String(threads), String(many)]);
  if (torch) console.error(`${name}: PyTorch ${torch.version} beside it`);
  else console.error(`${name}: python3 has no torch, so there is nothing to compare with`);
  try {
    const contestants: Contestant[] = [];
    for (const work of works) contestants.push(await ours(runtime, checkpoint, batch, shape, work));
    if (torch) contestants.push(...Object.entries(torch.probes).map(([work, probes]) => theirs(torch, work, probes)));
    const begin = performance.now();
    // The first round warms up; it is not counted.
    for (let round = 0; round <= rounds && !(round > 1 && performance.now() - begin > budgetMs); round++) {
      let side: Row['side'] = 'heartwood';
      for (const contestant of contestants) {
        // Let the other side's threads stop waiting for work.
        if (contestant.side !== side) await pause(250);
        side = contestant.side;
        const ms = await contestant.run();
        if (round > 0) contestant.times.push(ms);
      }
      console.error(`${name}: round ${round} of ${rounds}`);
    }
    report(name, batch, contestants);
  } finally {
    await torch?.close();
    await runtime.close();
  }
}

/** Loads one piece of work and runs it once, to see the memory that it takes. */
async function ours(
  runtime: Runtime,
  checkpoint: string,
  batch: number,
  { imageSize, channels = 3 }: RandomShape,
  work: WorkSpec,
): Promise<Contestant> {
  const graph = workGraph(await openCheckpoint(checkpoint), batch, gates, work);
  const before = await memory('VmRSS');
  await writeFile('/proc/self/clear_refs', '5').catch(() => undefined);
  // Packed copies of the weights, one for each product that reads them, would take gigabytes.
  const session = await loadGraph(runtime, graph, join(folder, 'graphs'), { prepacking: false });
  const feeds: Record<string, TensorValue> = {};
  for (const { name, shape } of session.inputs) {
    const dims = shape.map(Number);
    const count = dims.reduce((a, b) => a * b, 1);
    const data = Float32Array.from({ length: count }, (_, i) =>
      name === gates ? 1 : name === 'pixel_values' ? Math.sin(i * 12.9898) * 1.5 : Math.sin(i * 78.233) < 0 ? -1 : 1,
    );
    feeds[name] = { type: 'float32', dims, data };
  }
  if (feeds['pixel_values']?.data.length !== batch * channels * imageSize ** 2) throw new Error('unexpected input');
  await session.run(feeds);
  const peak = await memory('VmHWM');
  return {
    side: 'heartwood',
    work: titleOf(work),
    probes: work.probes,
    gflop: countFlops(graph, { B: batch }).total / 1e9,
    times: [],
    peakMiB: before !== undefined && peak !== undefined ? peak - before : null,
    run: async () => (await session.runTimed(feeds)).durationMs,
  };
}

function theirs(torch: TorchProcess, work: string, probes: number): Contestant {
  const contestant: Contestant = {
    side: 'pytorch',
    work: probes === 0 ? work : `${work} × ${probes}`,
    probes,
    gflop: null,
    times: [],
    peakMiB: null,
    async run() {
      const { ms, peakMiB } = await torch.time(work);
      contestant.peakMiB ??= peakMiB;
      return ms;
    },
  };
  return contestant;
}

function report(model: string, batch: number, contestants: readonly Contestant[]): void {
  const middle = ({ times }: Contestant): number => median(times);
  const forward = { heartwood: 0, pytorch: 0 };
  for (const contestant of contestants)
    if (contestant.work === 'forward') forward[contestant.side] = middle(contestant);
  for (const contestant of contestants) {
    const { side, work, probes, gflop, peakMiB } = contestant;
    const medianMs = middle(contestant);
    rows.push({ model, batch, side, work, probes, medianMs, forwards: medianMs / forward[side], gflop, peakMiB });
  }
  const of = (work: string, side: Row['side'] = 'heartwood'): number =>
    middle(contestants.find((c) => c.side === side && c.work === work)!);
  const unit = forward.heartwood;
  const further = (work: string): number => (of(`${work} × ${many}`) - of(`${work} × 1`)) / (many - 1) / unit;
  const bar = (what: string, value: number, limit: number): void => {
    bars.push({ name: `${model}: ${what}`, value, relation: '<=', bar: limit, holds: value <= limit });
  };
  bar('gradient, in forwards', of('gradient') / unit, 2.2);
  bar('one Hv, in forwards', of('Hv × 1') / unit, 5);
  bar('each further Hv of a run, in forwards', further('Hv'), 2.5);
  bar('one KL-curvature product, in forwards', of('KL-curvature × 1') / unit, 3.5);
  bar('each further probe of the output sketch, in forwards', further('output sketch'), 1.5);
  for (const { side, work, probes } of contestants) {
    if (side !== 'pytorch' || probes === 0) continue;
    const perProbe = of(`Hv × ${many}`) / many / (of(work, 'pytorch') / probes);
    bar(`time per Hv at ${many} probes, of PyTorch's ${work}`, perProbe, 0.5);
  }
}

/** This process' resident set now, or its greatest since it was last reset, in MiB; undefined where /proc does not say. */
async function memory(field: 'VmRSS' | 'VmHWM'): Promise<number | undefined> {
  const status = await readFile('/proc/self/status', 'utf8').catch(() => '');
  const found = new RegExp(`${field}:\\s+(\\d+) kB`).exec(status);
  return found ? Number(found[1]) / 1024 : undefined;
}
