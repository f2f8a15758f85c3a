/**
 * npm run bench:adaptive [-- --json FILE] [--base] [--seconds N] [--threads N]
 *
 * A step in load on a pruned vision transformer that is served over gRPC, with the latency controller and without: a third of the load that
 * the default budget bears, then a quarter more than it bears, then a third again. Load and objective are ratios to what this machine does
 * in the same run: the objective is eight times the time that a request takes when the server is never idle.
 *
 * ViT-S/16 unless `--base` asks for ViT-B/16, with random weights: its stages have random parameters, the thresholds are placed by the
 * pruner's own code, and losses are made up, since only shapes and times mean anything. The version's default saves 5 % of the FLOPs, its
 * ceiling 60 %.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { openCheckpoint } from '../libs/models/checkpoint.js';
import { specOf } from '../libs/models/classifier.js';
import { vitBase, vitTiny, writeRandomCheckpoint } from '../libs/models/testing/random-checkpoint.js';
import { writeModel } from '../libs/onnx/write.js';
import { segmentsOf } from '../libs/pruning/segments.js';
import { denseGraph, servedGraph } from '../libs/pruning/served-graph.js';
import { stageBlocks } from '../libs/pruning/statistics/schedule.js';
import { createRuntime } from '../libs/runtime/runtime.js';
import { flopsAt } from '../libs/store/segments.js';
import { openRepository, type Repository } from '../libs/store/repository.js';
import { createLogger } from '../libs/telemetry/log.js';
import { capacity, held, openLoop, type Sent } from '../services/server/adapting/testing/open-loop.js';
import { connectInference, type InferenceRequest } from '../services/server/client.js';
import { startServer } from '../services/server/server.js';
import { barOf, printBars, writeOutcome, type Bar } from './support/outcome.js';
import { imagesOf, placedTable, randomStages } from './support/random-stages.js';

/** Shares of the FLOPs in the budget table; the first is the default, the last the ceiling. */
const shares = [0.05, 0.2, 0.35, 0.5, 0.6];
/** Of what the default budget bears. */
const [light, heavy] = [1 / 3, 1.25];
const model = 'vit';

/** A phase of a run. */
interface Row {
  readonly controller: boolean;
  readonly phase: 'light' | 'step' | 'heavy' | 'light again';
  readonly requestsPerSecond: number;
  readonly requests: number;
  readonly withinObjective: number;
  /** Null: more than 5 % were refused. */
  readonly p95Ms: number | null;
  readonly objectiveMs: number;
  /** Changes of the budget within the phase. */
  readonly changes: number;
  /** Budgets seen, nats, with the seconds since the run's begin. */
  readonly budgets: readonly (readonly [seconds: number, nats: number])[];
}

const { values: options } = parseArgs({
  options: {
    json: { type: 'string' },
    base: { type: 'boolean' },
    seconds: { type: 'string' },
    threads: { type: 'string' },
  },
});
const shape = options.base ? vitBase : { ...vitTiny, hidden: 384, heads: 6, intermediate: 1536 };
const seconds = Math.max(5, Number(options.seconds ?? 30));
const threads = Math.max(1, Number(options.threads ?? availableParallelism()));
const folder = await mkdtemp(join(tmpdir(), 'heartwood-bench-'));
const rows: Row[] = [];
const bars: Bar[] = [];
try {
  const repository = await openRepository(join(folder, 'models'), { create: true });
  await publish(repository);
  const full = await calibrate(repository);
  const objectiveMs = (8 * 1000) / full;
  console.error(`${full.toFixed(1)} requests a second at the default budget, objective ${objectiveMs.toFixed(0)} ms`);
  for (const controller of [false, true]) rows.push(...(await run(repository, full, objectiveMs, controller)));
  const share = (controller: boolean) =>
    rows.find((row) => row.controller === controller && row.phase === 'heavy')!.withinObjective;
  bars.push(barOf('heavy load, with the controller: share within the objective', share(true), '>=', 0.95));
  bars.push(barOf('heavy load, without it: share within the objective', share(false), '<=', 0.5));
  const turns = rows.filter(({ controller }) => controller).reduce((sum, { changes }) => sum + changes, 0);
  bars.push(barOf('changes of the budget in the whole run', turns, '<=', 20));
} finally {
  await rm(folder, { recursive: true, force: true });
}
print();
await writeOutcome(options.json, { bench: 'adaptive', rows, bars });

/** Puts the pruned network into the repository, with the plan's table, so that the controller's steps are equal savings. */
async function publish(repository: Repository): Promise<void> {
  const checkpoint = await openCheckpoint(await writeRandomCheckpoint(join(folder, 'checkpoint'), shape));
  const spec = specOf(checkpoint);
  const blocks = stageBlocks(shape.layers);
  const stages = randomStages(shape.hidden, blocks);
  const runtime = createRuntime({ workers: 1, threads });
  const table = await placedTable(runtime, checkpoint, stages, shares, join(folder, 'graphs'));
  await runtime.close();
  const graph = servedGraph(checkpoint, new Map(), stages, table);
  const dense = flopsAt(segmentsOf(denseGraph(checkpoint), [], spec.tokens), [], spec.tokens);
  await repository.publish(model, async (directory) => {
    await writeModel(graph, join(directory, 'model.onnx'));
    return {
      task: 'image-classification',
      parent: null,
      architecture: checkpoint.architecture,
      checkpointDigest: checkpoint.digest,
      dataDigest: null,
      method: null,
      plan: { tokens: { table } },
      input: spec.image,
      labels: [...checkpoint.labels],
      preprocessing: checkpoint.preprocessing,
      tokens: { total: spec.tokens, special: spec.special, stages: [...blocks] },
      flops: { dense, mean: dense * (1 - shares[0]!), segments: segmentsOf(graph, blocks, spec.tokens) },
      budget: { default: table.rows[0]!.kl, ceiling: table.rows.at(-1)!.kl },
      deltaLoss: null,
      accuracy: null,
    };
  });
}

async function open(repository: Repository, objectiveMs?: number) {
  const server = await startServer(
    {
      repository: repository.directory,
      host: '127.0.0.1',
      port: 0,
      metricsPort: 0,
      workers: 1,
      threads,
      latencySlo: objectiveMs === undefined ? [] : [{ model: null, ms: objectiveMs }],
    },
    createLogger('bench', 'silent'),
  );
  const client = connectInference(`127.0.0.1:${server.grpcPort}`);
  const images = Array.from({ length: 16 }, (_, seed) => imagesOf(1, shape.imageSize, 100 + seed));
  let next = 0;
  const send = () => {
    const { dims, data } = images[next++ % images.length]!;
    const request: InferenceRequest = { model, pixels: { dims, data: data as Float32Array } };
    return client.infer(request);
  };
  /** The sum over the series of a metric. */
  const metric = async (name: string): Promise<number> => {
    const text = await (await fetch(`http://127.0.0.1:${server.metricsPort}/metrics`)).text();
    const lines = text.split('\n').filter((line) => line.startsWith(`${name}{`));
    return lines.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
  };
  const close = async (): Promise<void> => {
    client.close();
    await server.stop();
  };
  return { send, metric, close };
}

async function calibrate(repository: Repository): Promise<number> {
  const { send, close } = await open(repository);
  await capacity(send, 4, 12);
  const full = await capacity(send, 4, 80);
  await close();
  return full;
}

async function run(repository: Repository, full: number, objectiveMs: number, controller: boolean): Promise<Row[]> {
  const { send, metric, close } = await open(repository, controller ? objectiveMs : undefined);
  const span = seconds * 1000;
  // What happens while the step is met is shown by itself.
  const settling = Math.min(span / 2, 15 * objectiveMs);
  const phases: readonly (readonly [Row['phase'], number, number, number])[] = [
    ['light', 0, span, light],
    ['step', span, span + settling, heavy],
    ['heavy', span + settling, 2 * span, heavy],
    ['light again', 2 * span, 3 * span, light],
  ];
  const begin = performance.now();
  const seen: { at: number; budget: number; changes: number }[] = [];
  const look = async (): Promise<void> => {
    const at = performance.now() - begin;
    const budget = await metric('heartwood_model_budget_nats');
    seen.push({ at, budget, changes: await metric('heartwood_controller_changes_total') });
  };
  const timer = setInterval(() => void look(), 250);
  const rate = (elapsed: number) => full * (phases.findLast(([, from]) => elapsed >= from)?.[3] ?? light);
  const sent: Sent[] = await openLoop(send, rate, 3 * span);
  clearInterval(timer);
  await look();
  await close();
  return phases.map(([phase, from, to, load]): Row => {
    const { p95, share, requests } = held(sent, from, to, objectiveMs);
    const before = seen.findLast(({ at }) => at < from)?.changes ?? 0;
    const within = seen.filter(({ at }) => at >= from && at < to);
    const budgets = within.filter(({ budget }, at) => at === 0 || budget !== within[at - 1]!.budget);
    return {
      controller,
      phase,
      requestsPerSecond: full * load,
      requests,
      withinObjective: share,
      p95Ms: Number.isFinite(p95) ? p95 : null,
      objectiveMs,
      changes: (within.at(-1)?.changes ?? before) - before,
      budgets: budgets.map(({ at, budget }) => [at / 1000, budget] as const),
    };
  });
}

function print(): void {
  const table = new Table({
    head: ['controller', 'phase', 'requests/s', 'within', 'p95, ms', 'changes', 'budget, nats (seconds)'],
  });
  for (const { controller, phase, requestsPerSecond, withinObjective, p95Ms, changes, budgets } of rows) {
    table.push([
      controller ? 'yes' : 'no',
      phase,
      requestsPerSecond.toFixed(1),
      `${(100 * withinObjective).toFixed(1)} %`,
      p95Ms === null ? 'refused' : p95Ms.toFixed(0),
      changes,
      budgets.map(([at, nats]) => `${nats.toPrecision(2)} (${at.toFixed(0)})`).join(' '),
    ]);
  }
  console.log(table.toString());
  console.log(`${options.base ? 'ViT-B/16' : 'ViT-S/16'}, random weights, ${threads} threads.`);
  printBars(bars);
}
