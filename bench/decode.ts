/**
 * npm run bench:decode [-- --json FILE] [--sizes 160m,410m] [--bits 32,8,4] [--rounds N] [--threads N] [--tokens N]
 *
 * How near decoding comes to the speed of the memory bus: language models with random weights in the shapes of Pythia, float32, 8 and 4 bits.
 * A token of a single stream reads every weight once, and the keys and values of the tokens before it; these bytes times the tokens per
 * second are set against what this machine reads from its memory (bench/support/bandwidth: as many threads as the model has, which sum regions far
 * larger than the caches), measured between the rounds.
 *
 * Rates are the engine's of the server (services/server/generation): one stream, and eight by continuous batching. Beside them the bare loop (a
 * run of the graph, the likeliest token, the next run); what gRPC takes of it is `npm run bench:streams`'. What is not under way at the moment is
 * idle; medians over the rounds, and of ratios the medians of each round's.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { pythiaShapes } from '../libs/models/testing/random-causal.js';
import { createRuntime } from '../libs/runtime/runtime.js';
import { median } from '../libs/pruning/statistics/quantiles.js';
import { openBandwidth, type Bandwidth } from './support/bandwidth/bandwidth.js';
import { bareLoop, engineStream, rateOf } from './support/generation/rates.js';
import {
  bytesOfToken,
  loadSubject,
  promptOf,
  subjectOf,
  writeSubject,
  type LoadedSubject,
  type Subject,
  type WeightBits,
} from './support/generation/subject.js';
import { barOf, printBars, writeOutcome, type Bar } from './support/outcome.js';

const promptLength = 64;
const batch = 8;
const leastUse: Readonly<Partial<Record<WeightBits, number>>> = { 32: 0.75, 4: 0.6 };
const leastGain = 4;

interface Row {
  readonly model: string;
  readonly bits: WeightBits;
  /** Bytes that a token reads, 10⁶: the mean over the tokens of a stream. */
  readonly megabytes: number;
  /** Tokens per second: the bare loop, one stream of the engine, eight of it together. */
  readonly bare: number;
  readonly engine: number;
  readonly batched: number;
  /** GB/s. */
  readonly read: number;
  readonly bandwidth: number;
  /** read ÷ bandwidth. */
  readonly use: number;
}

interface Round {
  readonly bare: number;
  readonly engine: number;
  readonly batched: number;
  readonly bandwidth: number;
}

const { values: options } = parseArgs({
  options: {
    json: { type: 'string' },
    sizes: { type: 'string', default: '160m,410m' },
    bits: { type: 'string', default: '32,8,4' },
    rounds: { type: 'string', default: '5' },
    threads: { type: 'string' },
    tokens: { type: 'string', default: '64' },
  },
});
const threads = Math.max(1, Number(options.threads ?? availableParallelism()));
const tokens = Math.max(8, Number(options.tokens));
const rounds = Math.max(1, Number(options.rounds));
const folder = await mkdtemp(join(tmpdir(), 'heartwood-bench-'));
const bandwidth = await openBandwidth(threads);
const rows: Row[] = [];
const bars: Bar[] = [];
try {
  for (const size of options.sizes.split(',')) {
    const shape = pythiaShapes[size as keyof typeof pythiaShapes];
    if (!shape) throw new Error(`--sizes: ${size}, expected some of ${Object.keys(pythiaShapes).join(', ')}`);
    const directory = join(folder, size);
    const checkpoint = await writeSubject(join(directory, 'checkpoint'), shape);
    for (const bits of options.bits.split(',').map(Number) as WeightBits[]) {
      const subject = await subjectOf(checkpoint, bits, join(directory, 'work'));
      console.error(`pythia-${size}, ${bits} bits: written`);
      report(size, subject, await measured(subject));
    }
    await rm(directory, { recursive: true, force: true });
  }
} finally {
  await bandwidth.close();
  await rm(folder, { recursive: true, force: true });
}
print();
await writeOutcome(options.json, { bench: 'decode', rows, bars });

async function measured(subject: Subject): Promise<Round[]> {
  const runtime = createRuntime({ workers: 1, threads, spinning: true });
  try {
    return await inTurn(await loadSubject(runtime, subject), subject);
  } finally {
    await runtime.close();
  }
}

async function inTurn(loaded: LoadedSubject, { spec }: Subject): Promise<Round[]> {
  const engine = await loaded.engine({ generationRows: batch, generationContext: promptLength + tokens });
  const taken: Round[] = [];
  // The first round warms up and is not counted; every prompt is a new one, so that none is taken over.
  for (let round = 0; round <= rounds; round++) {
    const prompt = (which: number) => promptOf(promptLength, spec.vocabulary, 100 * round + which);
    const gigabytes = await settled(bandwidth);
    const bare = rateOf([await bareLoop(loaded, prompt(0), tokens)]);
    const alone = rateOf([(await engineStream(engine, prompt(1), tokens)).times]);
    const together = await Promise.all(
      Array.from({ length: batch }, (_, row) => engineStream(engine, prompt(2 + row), tokens)),
    );
    const batched = rateOf(together.map(({ times }) => times));
    if (round > 0) taken.push({ bare, engine: alone, batched, bandwidth: gigabytes });
  }
  await engine.close();
  await loaded.session.dispose();
  return taken;
}

/** Threads of the runtime spin for a while after a run: they would take the readers' cores. */
async function settled(memory: Bandwidth): Promise<number> {
  await pause(200);
  return memory.measure();
}

function report(size: string, subject: Subject, taken: readonly Round[]): void {
  const { bits } = subject;
  const of = (value: (round: Round) => number): number => median(taken.map(value));
  const bytes = bytesOfToken(subject, promptLength + tokens / 2);
  const use = of(({ engine, bandwidth }) => (engine * bytes) / 1e9 / bandwidth);
  const model = `pythia-${size}`;
  const engine = of((round) => round.engine);
  rows.push({
    ...{ model, bits, megabytes: bytes / 1e6, engine, use, read: (engine * bytes) / 1e9 },
    bare: of((round) => round.bare),
    batched: of((round) => round.batched),
    bandwidth: of((round) => round.bandwidth),
  });
  const name = `${model}, ${bits === 32 ? 'float32' : `${bits} bits`}`;
  const least = leastUse[bits];
  if (least !== undefined) bars.push(barOf(`${name}: bytes read × tokens/s ÷ read bandwidth`, use, '>=', least));
  if (bits === 32) {
    const gain = of((round) => round.batched / round.engine);
    bars.push(barOf(`${name}: tokens/s of ${batch} streams ÷ of one`, gain, '>=', leastGain));
  }
}

function print(): void {
  const head = ['model', 'bits', 'MB/token', 'bare tok/s', 'engine', `${batch} streams`, 'GB/s read', 'GB/s', 'use'];
  const table = new Table({ head });
  for (const row of rows) {
    const rates = [row.bare, row.engine, row.batched, row.read, row.bandwidth].map((rate) => rate.toFixed(1));
    table.push([row.model, row.bits, row.megabytes.toFixed(0), ...rates, row.use.toFixed(2)]);
  }
  console.log(table.toString());
  console.log(`Random weights, ${threads} threads, prompts of ${promptLength}, ${tokens} new tokens.`);
  printBars(bars);
}
