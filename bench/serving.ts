/**
 * npm run bench:serving [-- --json FILE] [--rounds N] [--only message,demo,vit,pruned]
 *
 * What serving costs over the bare work, each ratio of two sides that take turns in one run:
 *
 *   batching    images/s through gRPC at concurrency 8 ÷ those of a bare loop over the same session and batch: ViT-B/16 (random
 *               weights), an image a request; and the demo's network, 16 images a request at concurrency 2
 *   message     the p50 that a request of a 600 KB tensor takes at concurrency 1 over what a bare grpc-js echo of the same bytes
 *               takes; the model is a mean, and its compute is part of it
 *   pruned      ViT-B/16 at 50 % fewer FLOPs against unpruned, from client to answer, concurrency 4: throughput and p95
 *
 * The client, the server and the bare server are processes on this machine; the bare loop is in this one.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { createRuntime } from '../libs/runtime/runtime.js';
import { importBaseline } from '../libs/pruning/baseline.js';
import { openRepository } from '../libs/store/repository.js';
import type { TensorValue } from '../libs/runtime/tensor.js';
import { median, quantileOrNaN as quantile } from '../libs/pruning/statistics/quantiles.js';
import { publishGraph, tensorMeanModel } from '../services/server/testing/fixture-models.js';
import { barOf, printBars, writeOutcome, type Bar } from './support/outcome.js';
import { echoPath, rawClient } from './support/raw-client.js';
import { closedLoop, inferPath, pixelRequest, startBare, startServed } from './support/served.js';
import { publishPair } from './support/served-pair.js';

interface Row {
  readonly measure: string;
  readonly side: string;
  /** Images a second, medians over the rounds; null where latency is what counts. */
  readonly imagesPerSecond: number | null;
  /** Milliseconds of a request, over all rounds; null for a bare loop. */
  readonly p50: number | null;
  readonly p95: number | null;
  readonly rounds: number;
}

const { values: options } = parseArgs({
  options: { json: { type: 'string' }, rounds: { type: 'string' }, only: { type: 'string' } },
});
const roundsOf = (usual: number): number => Math.max(1, Number(options.rounds ?? usual));
const folder = await mkdtemp(join(tmpdir(), 'heartwood-bench-'));
const repository = join(folder, 'models');
const cores = availableParallelism();
const wanted = (part: string): boolean => (options.only?.split(',') ?? [part]).includes(part);
const rows: Row[] = [];
const bars: Bar[] = [];
try {
  const context = { workDirectory: join(folder, 'import'), signal: new AbortController().signal };
  if (wanted('message')) {
    await publishGraph(await openRepository(repository, { create: true }), 'mean', tensorMeanModel(224));
    await message();
  }
  if (wanted('demo')) {
    await importBaseline({ modelDirectory: 'models/demo-digits', repository, name: 'demo' }, context);
    const load = { side: 64, batch: 16, requestBatch: 16, concurrency: 2, requests: 60, rounds: 9, bar: 0.85 };
    await batching('demo', cores, load);
    // The client and the transport take part of a core: with one left to them the model's threads do not wait for each other.
    if (cores > 1) await batching('demo', cores - 1, load);
  }
  if (wanted('vit') || wanted('pruned')) {
    await publishPair(repository, folder, 'vit-base', 0.5);
    console.error('published ViT-B/16');
  }
  if (wanted('vit')) {
    const load = { side: 224, batch: 8, requestBatch: 1, concurrency: 8, requests: 24, rounds: 5, bar: 0.95 };
    await batching('vit-base', cores, load);
  }
  if (wanted('pruned')) await pruned();
} finally {
  await rm(folder, { recursive: true, force: true });
}
print();
await writeOutcome(options.json, { bench: 'serving', rows, bars });

interface Load {
  readonly side: number;
  /** Samples of a run. */
  readonly batch: number;
  readonly requestBatch: number;
  readonly concurrency: number;
  readonly requests: number;
  readonly rounds: number;
  readonly bar: number;
}

async function batching(name: string, threads: number, load: Load): Promise<void> {
  const { side, batch, requestBatch, concurrency, requests, bar } = load;
  const runtime = createRuntime({ workers: 1, threads });
  const session = await runtime.load(join(repository, name, '1', 'model.onnx'));
  const server = await startServed(
    repository,
    [{ name, versions: [1] }],
    [
      ...['--workers', '1', '--threads', String(threads), '--run-batch', String(batch)],
      ...['--preferred-batches', String(batch), '--queue-delay-ms', '20'],
    ],
  );
  const client = rawClient(server.address);
  try {
    const request = pixelRequest(name, 1, requestBatch, side);
    const images = requests * requestBatch;
    const bareLoop = async (): Promise<number> => {
      const data = new Float32Array(batch * 3 * side * side).fill(0.3);
      const pixels: TensorValue = { type: 'float32', dims: [batch, 3, side, side], data };
      const begun = performance.now();
      for (let done = 0; done < images; done += batch) await session.run({ pixel_values: pixels });
      return (1000 * images) / (performance.now() - begun);
    };
    const served = () => closedLoop(concurrency, requests, () => client.call(inferPath, request));
    await bareLoop();
    await served();
    const bare: number[] = [];
    const through: number[] = [];
    const latencies: number[] = [];
    const rounds = roundsOf(load.rounds);
    for (let round = 0; round < rounds; round++) {
      const serve = async () => {
        const { latencies: own, wallMs } = await served();
        latencies.push(...own);
        through.push((1000 * images) / wallMs);
      };
      if (round % 2) await serve();
      bare.push(await bareLoop());
      if (round % 2 === 0) await serve();
    }
    const measure = `${name}, runs of ${batch} on ${threads} thread${threads === 1 ? '' : 's'}`;
    rows.push({ measure, side: 'bare loop', imagesPerSecond: median(bare), p50: null, p95: null, rounds });
    rows.push({
      measure,
      side: `gRPC, ${requestBatch} a request, concurrency ${concurrency}`,
      imagesPerSecond: median(through),
      p50: quantile(latencies, 0.5),
      p95: quantile(latencies, 0.95),
      rounds,
    });
    bars.push(
      barOf(`${measure}: images/s through gRPC ÷ bare loop`, median(through.map((x, i) => x / bare[i]!)), '>=', bar),
    );
    console.error(`${measure}: ${rounds} rounds`);
  } finally {
    client.close();
    await server.stop();
    await runtime.close();
  }
}

async function message(): Promise<void> {
  const server = await startServed(repository, [{ name: 'mean', versions: [1] }], ['--workers', '1']);
  const bare = await startBare();
  const [client, echo] = [rawClient(server.address), rawClient(bare.address)];
  try {
    const request = pixelRequest('mean', 1, 1, 224);
    const [served, echoed]: [number[], number[]] = [[], []];
    const rounds = roundsOf(400);
    for (let round = -50; round < rounds; round++) {
      const pair = [
        async () => served.push((await client.call(inferPath, request)).ms),
        async () => echoed.push((await echo.call(echoPath, request)).ms),
      ];
      for (const turn of round % 2 ? pair : pair.reverse()) await turn();
      if (round < 0) served.length = echoed.length = 0;
    }
    const measure = `${Math.round(request.length / 1000)} KB, concurrency 1`;
    for (const [side, ms] of [
      ['bare grpc-js echo', echoed],
      ['ModelInfer', served],
    ] as const) {
      rows.push({ measure, side, imagesPerSecond: null, p50: median(ms), p95: quantile(ms, 0.95), rounds });
    }
    bars.push(barOf('added p50 over a bare echo, ms', median(served) - median(echoed), '<=', 1));
    console.error(`message: ${rounds} rounds`);
  } finally {
    client.close();
    echo.close();
    bare.stop();
    await server.stop();
  }
}

async function pruned(): Promise<void> {
  const concurrency = 4;
  const requests = 24;
  const server = await startServed(
    repository,
    [{ name: 'vit-base', versions: [1, 2] }],
    [...['--workers', '1', '--threads', String(cores)]],
  );
  const client = rawClient(server.address);
  try {
    const sides = [1, 2].map((version) => ({
      version,
      requests: Array.from({ length: 8 }, (_, seed) => pixelRequest('vit-base', version, 1, 224, seed)),
      throughput: [] as number[],
      p95: [] as number[],
      latencies: [] as number[],
    }));
    const rounds = roundsOf(6);
    for (let round = -1; round < rounds; round++) {
      for (const side of round % 2 ? sides : [...sides].reverse()) {
        const call = (index: number) => client.call(inferPath, side.requests[index % side.requests.length]!);
        const { latencies, wallMs } = await closedLoop(concurrency, round < 0 ? 4 : requests, call);
        if (round < 0) continue;
        side.throughput.push((1000 * requests) / wallMs);
        side.p95.push(quantile(latencies, 0.95));
        side.latencies.push(...latencies);
      }
    }
    const [dense, dynamic] = sides as [(typeof sides)[0], (typeof sides)[0]];
    for (const { version, throughput, latencies } of sides) {
      rows.push({
        measure: `ViT-B/16 over gRPC, concurrency ${concurrency}`,
        side: version === 1 ? 'unpruned' : '50 % fewer FLOPs',
        imagesPerSecond: median(throughput),
        p50: quantile(latencies, 0.5),
        p95: quantile(latencies, 0.95),
        rounds,
      });
    }
    const ratios = (of: 'throughput' | 'p95') => median(dynamic[of].map((value, at) => value / dense[of][at]!));
    bars.push(barOf('pruned ÷ unpruned: throughput', ratios('throughput'), '>=', 1.9));
    bars.push(barOf('pruned ÷ unpruned: p95', ratios('p95'), '<=', 0.55));
  } finally {
    client.close();
    await server.stop();
  }
}

function print(): void {
  const table = new Table({
    head: ['measure', 'side', 'images/s', 'p50 ms', 'p95 ms'],
    style: { head: [], border: [] },
  });
  const text = (value: number | null) => (value === null ? '' : String(Number(value.toPrecision(3))));
  for (const { measure, side, imagesPerSecond, p50, p95 } of rows) {
    table.push([measure, side, text(imagesPerSecond), text(p50), text(p95)]);
  }
  console.log(table.toString());
  printBars(bars);
}
