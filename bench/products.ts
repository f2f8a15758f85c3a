/**
 * npm run bench:products [-- --json FILE] [--size 160m] [--rounds N] [--threads N]
 *
 * How fast the runtime's products of one row read their weights, and what holds them up: all products of a decoded token in the shapes of a Pythia,
 * one after the other and nothing else, as matrix products and as convolutions over blocks (float32), and as MatMulNBits at 8 and 4 bits. `read` is
 * from memory: every matrix has other weights. `cached` is of one pair of matrices again and again, which stay in the caches: what the arithmetic
 * alone would allow. The memory's own speed (bench/support/bandwidth) is measured between the rounds. The kinds take turns; medians over the rounds.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { pythiaShapes } from '../libs/models/testing/random-causal.js';
import { median } from '../libs/pruning/statistics/quantiles.js';
import { loadGraph } from '../libs/runtime/load-graph.js';
import { createRuntime, type Session } from '../libs/runtime/runtime.js';
import { openBandwidth } from './support/bandwidth/bandwidth.js';
import { productsGraph, type MatrixShape, type ProductKind } from './support/generation/products-graph.js';
import { writeOutcome } from './support/outcome.js';

const kinds: readonly ProductKind[] = [
  { name: 'float32, matrix product', bits: 32, blocked: false },
  { name: 'float32, blocked convolution', bits: 32, blocked: true },
  { name: '8 bits, blocks of 32', bits: 8, blockSize: 32 },
  { name: '4 bits, blocks of 32', bits: 4, blockSize: 32 },
  { name: '4 bits, blocks of 128', bits: 4, blockSize: 128 },
];
/** Of each kind a round: the first ones after another kind find the caches full of its weights. */
const runsOfRound = 6;
const cachedPairs = 24;

const { values: options } = parseArgs({
  options: {
    json: { type: 'string' },
    size: { type: 'string', default: '160m' },
    rounds: { type: 'string', default: '10' },
    threads: { type: 'string' },
  },
});
const shape = pythiaShapes[options.size as keyof typeof pythiaShapes];
if (!shape) throw new Error(`--size: ${options.size}, expected one of ${Object.keys(pythiaShapes).join(', ')}`);
const threads = Math.max(1, Number(options.threads ?? availableParallelism()));
const rounds = Math.max(1, Number(options.rounds));
const { hidden, intermediate, layers, vocabulary } = shape;
const expand: MatrixShape = { inputs: hidden, outputs: intermediate };
const contract: MatrixShape = { inputs: intermediate, outputs: hidden };
const ofToken: readonly MatrixShape[] = [
  ...Array.from({ length: layers }, () => [
    { inputs: hidden, outputs: 3 * hidden },
    { inputs: hidden, outputs: hidden },
    expand,
    contract,
  ]).flat(),
  { inputs: hidden, outputs: vocabulary },
];
const again = Array.from({ length: cachedPairs }, () => [expand, contract]).flat();

interface Subject {
  readonly kind: ProductKind;
  readonly megabytes: number;
  readonly read: Session;
  readonly cached: Session;
  /** Megabytes that the cached one goes through. */
  readonly cachedMegabytes: number;
  readonly milliseconds: { read: number[]; cached: number[] };
}

const folder = await mkdtemp(join(tmpdir(), 'heartwood-bench-'));
const runtime = createRuntime({ workers: 1, threads, spinning: true });
const bandwidth = await openBandwidth(threads);
try {
  const subjects: Subject[] = [];
  for (const kind of kinds) {
    const [token, pair] = [productsGraph(kind, ofToken, 'each'), productsGraph(kind, again, 'shared')];
    const [read, cached] = [
      await loadGraph(runtime, token.graph, folder),
      await loadGraph(runtime, pair.graph, folder),
    ];
    const megabytes = token.bytes / 1e6;
    subjects.push({
      kind,
      megabytes,
      read,
      cached,
      cachedMegabytes: pair.bytes / 1e6,
      milliseconds: { read: [], cached: [] },
    });
  }
  const speeds: number[] = [];
  // The first round warms up.
  for (let round = 0; round <= rounds; round++) {
    const speed = await bandwidth.measure();
    if (round > 0) speeds.push(speed);
    for (const { read, cached, milliseconds } of subjects) {
      const taken = [await timed(read), await timed(cached)] as const;
      if (round === 0) continue;
      milliseconds.read.push(taken[0]);
      milliseconds.cached.push(taken[1]);
    }
  }
  const memory = median(speeds);
  const rows = subjects.map(({ kind, megabytes, cachedMegabytes, milliseconds }) => {
    const [read, cached] = [median(milliseconds.read), median(milliseconds.cached)];
    const gigabytes = megabytes / read;
    return {
      ...{ weights: kind.name, megabytes, milliseconds: read, gigabytes, share: gigabytes / memory },
      cached: cachedMegabytes / cached,
    };
  });
  const table = new Table({ head: ['products of a token', 'MB', 'ms', 'GB/s read', 'of the memory', 'GB/s cached'] });
  for (const { weights, megabytes, milliseconds, gigabytes, share, cached } of rows)
    table.push([
      weights,
      megabytes.toFixed(0),
      milliseconds.toFixed(2),
      gigabytes.toFixed(1),
      share.toFixed(2),
      cached.toFixed(1),
    ]);
  console.log(table.toString());
  console.log(`pythia-${options.size}, one row, ${threads} threads; the memory reads ${memory.toFixed(1)} GB/s.`);
  await writeOutcome(options.json, { bench: 'products', rows, bars: [] });
  for (const { read, cached } of subjects) await Promise.all([read.dispose(), cached.dispose()]);
} finally {
  await bandwidth.close();
  await runtime.close();
  await rm(folder, { recursive: true, force: true });
}

/** The median time of a round's runs, milliseconds. */
async function timed(session: Session): Promise<number> {
  const times: number[] = [];
  for (let run = 0; run < runsOfRound; run++) {
    const x = { type: 'float32', dims: [1, hidden], data: new Float32Array(hidden).fill(0.01) } as const;
    times.push((await session.runTimed({ x })).durationMs);
  }
  return median(times);
}
