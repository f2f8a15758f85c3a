/**
 * npm run bench:soak [-- --json FILE] [--minutes 5]
 *
 * Steady work of all kinds, and how the server's resident memory moves after a minute of warm-up: raw tensors, encoded images, streams,
 * some left in the middle, budgets, requests that are refused, cancelled or late, and a version that is published and removed again
 * and again.
 */
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import sharp from 'sharp';
import { integerIn, randomFor } from '../libs/data/random.js';
import { importBaseline } from '../libs/pruning/baseline.js';
import { openRepository } from '../libs/store/repository.js';
import { median } from '../libs/pruning/statistics/quantiles.js';
import { connectInference, type InferenceClient, type InferenceRequest } from '../services/server/client.js';
import { budgetDraft, budgetModel, publishGraph } from '../services/server/testing/fixture-models.js';
import { memorySlope, sampleMemory } from './support/memory.js';
import { barOf, printBars, writeOutcome } from './support/outcome.js';
import { startServed } from './support/served.js';

const { values: options } = parseArgs({ options: { json: { type: 'string' }, minutes: { type: 'string' } } });
const minutes = Math.max(0.1, Number(options.minutes ?? 5));
const warmUpMinutes = Math.min(1, minutes / 3);
const folder = await mkdtemp(join(tmpdir(), 'heartwood-bench-'));
const directory = join(folder, 'models');
try {
  const context = { workDirectory: join(folder, 'import'), signal: new AbortController().signal };
  await importBaseline({ modelDirectory: 'models/demo-digits', repository: directory, name: 'demo' }, context);
  await publishGraph(await openRepository(directory), 'small', budgetModel(), { ...budgetDraft, parent: null });
  const models = [{ name: 'demo', versions: [1] }];
  const server = await startServed(directory, models, ['--poll-ms', '500', '--queue-limit', '8']);
  const client = connectInference(server.address);
  const memory = sampleMemory(server, 2000);
  try {
    const until = performance.now() + minutes * 60_000;
    const [first, second, streamed, published] = await Promise.all([
      requests(client, until, 1),
      requests(client, until, 2),
      streams(client, until),
      versions(until),
    ]);
    const samples = memory.stop();
    const slope = memorySlope(samples.filter(({ minute }) => minute >= warmUpMinutes));
    // What rises for good rises in every part of the run; what warms up levels off.
    const byMinute = Array.from({ length: Math.floor(minutes) }, (_, from) => {
      const within = samples.filter(({ minute }) => minute >= from && minute < from + 1);
      return { resident: median(within.map(({ mib }) => mib)), heap: median(within.map(({ heapMib }) => heapMib)) };
    });
    const row = {
      ...{ minutes, requests: first + second + streamed, versions: published, slope, byMinute },
      residentMiB: samples.map(({ mib }) => Math.round(mib)),
    };
    console.log(`${row.requests} requests and ${row.versions} versions in ${minutes} minutes`);
    for (const [minute, { resident, heap }] of byMinute.entries())
      console.log(`minute ${minute + 1}: resident ${resident.toFixed(1)} MiB, of which JavaScript ${heap.toFixed(1)}`);
    const bars = [barOf('resident memory after warm-up, MiB a minute', slope, '<=', 1)];
    printBars(bars);
    await writeOutcome(options.json, { bench: 'soak', rows: [row], bars });
  } finally {
    client.close();
    await server.stop();
  }
} finally {
  await rm(folder, { recursive: true, force: true });
}

/** Single calls of every kind, good and bad, one after the other. */
async function requests(client: InferenceClient, until: number, seed: number): Promise<number> {
  const random = randomFor(seed);
  const images = await Promise.all(Array.from({ length: 8 }, (_, i) => imageOf(i)));
  let count = 0;
  for (; performance.now() < until; count++) {
    const batch = integerIn(random, 1, 8);
    const pixels = { dims: [batch, 3, 64, 64], data: new Float32Array(batch * 3 * 64 * 64).fill(0.1 * (count % 10)) };
    const kinds: InferenceRequest[] = [
      { model: 'demo', pixels },
      { model: 'demo', images: images.slice(0, batch) },
      { model: 'small', budget: 0.5, pixels: { dims: [1, 3, 8, 8], data: new Float32Array(192) } },
      { model: 'absent', pixels },
      { model: 'demo', pixels: { ...pixels, dims: [batch, 3, 64, 63] } },
      { model: 'demo', images: [new Uint8Array([1, 2, 3])] },
    ];
    const request = kinds[integerIn(random, 0, kinds.length - 1)]!;
    const signal = integerIn(random, 0, 9) === 0 ? AbortSignal.timeout(integerIn(random, 1, 5)) : undefined;
    await client.infer(request, signal).catch(() => undefined);
  }
  return count;
}

/** Streams of some dozens of requests, some of them left in the middle. */
async function streams(client: InferenceClient, until: number): Promise<number> {
  let count = 0;
  const image = await imageOf(3);
  for (let round = 0; performance.now() < until; round++) {
    async function* frames(): AsyncGenerator<InferenceRequest> {
      for (let i = 0; i < 30; i++) yield { model: i % 7 === 6 ? 'absent' : 'demo', images: [image], id: String(i) };
    }
    for await (const _ of client.stream(frames())) {
      count++;
      if (round % 3 === 0 && count % 20 === 0) break;
    }
  }
  return count;
}

/** A version that comes and goes. */
async function versions(until: number): Promise<number> {
  const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
  const repository = await openRepository(directory);
  const { files: _f, createdAt: _c, version: _v, schema: _s, ...facts } = await repository.readManifest('small', 1);
  let count = 0;
  for (; performance.now() < until; count++) {
    const { version } = await repository.publish('small', async (target) => {
      await cp(join(directory, 'small', '1', 'model.onnx'), join(target, 'model.onnx'));
      return facts;
    });
    await pause(3000);
    await repository.remove('small', version);
    await pause(1500);
  }
  return count;
}

function imageOf(seed: number): Promise<Uint8Array> {
  const background = { r: 20 * seed, g: 255 - 20 * seed, b: 128 };
  return sharp({ create: { width: 96, height: 80, channels: 3, background } })
    .jpeg()
    .toBuffer();
}
