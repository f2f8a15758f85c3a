/**
 * npm run bench:llm-peers [-- --json FILE] [--size 160m] [--rounds N] [--threads N] [--prompt N] [--tokens N] [--removed 0.3]
 *
 * The engine of the server against llama.cpp (node-llama-cpp and its prebuilt CPU binary, in bench/llm-peers with a package.json of its own, installed when
 * it is missing): the same random weights in the shape of a Pythia, written as GGUF, float32 against F32, 8 bits against Q8_0, 4 bits against Q4_0;
 * a prompt of 512 tokens, 128 new ones, greedy, as many threads, in turn. Medians over the rounds, and of ratios the medians of each round's.
 *
 * First it is checked that both run the same model: at F32 the tokens that they generate are compared, and where they part, that the logits were near a
 * tie (the GELU of ggml is a table in half precision, so the last digits differ). The checkpoint has the tanh approximation of the GELU, which is the one
 * that llama.cpp has.
 *
 * Then what a user gets in the end: heads and neurons gone (`--removed`, a share; what a loss budget buys has to be measured on trained weights:
 * `heartwood prune`) and quantised, against llama.cpp's dense model at the same bits.
 */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import type { Checkpoint } from '../libs/models/checkpoint.js';
import { pythiaShapes, type RandomCausalShape } from '../libs/models/testing/random-causal.js';
import { createRuntime } from '../libs/runtime/runtime.js';
import { median } from '../libs/pruning/statistics/quantiles.js';
import { writeGguf, type MatrixFormat } from './llm-peers/gguf.js';
import { installLlama, startLlama, type LlamaProcess } from './llm-peers/llama-process.js';
import { sameModel } from './llm-peers/same-model.js';
import { barOf, printBars, writeOutcome, type Bar } from './support/outcome.js';
import { engineStream, rateOf } from './support/generation/rates.js';
import {
  loadSubject,
  promptOf,
  subjectOf,
  writeSubject,
  type Subject,
  type WeightBits,
} from './support/generation/subject.js';

const formats: readonly {
  readonly bits: WeightBits;
  readonly format: MatrixFormat;
  readonly prefill: number;
  readonly decode: number;
}[] = [
  { bits: 32, format: 'F32', prefill: 2, decode: 1.3 },
  { bits: 8, format: 'Q8_0', prefill: 1.3, decode: 2 },
  { bits: 4, format: 'Q4_0', prefill: 1.3, decode: 2 },
];

/** Threads of either side wait busily for a while after a run: not in the other's turn. */
const settleMs = 300;

/** Tokens per second. */
interface Rates {
  readonly prefill: number;
  readonly decode: number;
}

interface Row {
  readonly bits: WeightBits;
  readonly removed: number;
  readonly ours: Rates;
  readonly llama: Rates;
  /** Medians of the rounds' ratios. */
  readonly ratio: Rates;
}

const { values: options } = parseArgs({
  options: {
    json: { type: 'string' },
    size: { type: 'string', default: '160m' },
    rounds: { type: 'string', default: '5' },
    threads: { type: 'string' },
    prompt: { type: 'string', default: '512' },
    tokens: { type: 'string', default: '128' },
    removed: { type: 'string', default: '0.3' },
  },
});
const threads = Math.max(1, Number(options.threads ?? availableParallelism()));
const [rounds, promptLength, tokens] = [options.rounds, options.prompt, options.tokens].map(Number) as [
  number,
  number,
  number,
];
const removed = Number(options.removed);
const shape = { ...shapeOf(options.size), activation: 'gelu_new' };
const context = promptLength + tokens;

await installLlama();
const folder = await mkdtemp(join(tmpdir(), 'heartwood-bench-'));
const rows: Row[] = [];
const bars: Bar[] = [];
try {
  const dense = await writeSubject(join(folder, 'dense'), shape);
  const smaller = await writeSubject(join(folder, 'smaller'), { ...shape, blocks: withoutUnits(shape, removed) });
  for (const { bits, format, ...bar } of formats) {
    const file = join(folder, `${format}.gguf`);
    await writeGguf(file, dense, format);
    const llama = await startLlama({ model: file, threads, context, batch: promptLength });
    try {
      const denseSubject = await subject(dense, bits);
      if (bits === 32) {
        const { held, said } = await sameModel(denseSubject, llama, promptOf(16, shape.vocabulary), 24);
        console.error(said);
        bars.push(barOf('F32: tokens by both, near ties apart: disagreements', held ? 0 : 1, '<=', 0));
      }
      const same = await inTurn(denseSubject, llama);
      row(bits, 0, same);
      bars.push(barOf(`${format}: prefill ÷ llama.cpp`, rows.at(-1)!.ratio.prefill, '>=', bar.prefill));
      bars.push(barOf(`${format}: decode ÷ llama.cpp`, rows.at(-1)!.ratio.decode, '>=', bar.decode));
      row(bits, removed, await inTurn(await subject(smaller, bits), llama));
    } finally {
      await llama.close();
      await rm(file, { force: true });
    }
  }
} finally {
  await rm(folder, { recursive: true, force: true });
}
print();
await writeOutcome(options.json, { bench: 'llm-peers', rows, bars });

function shapeOf(size: string): RandomCausalShape {
  const known = pythiaShapes[size as keyof typeof pythiaShapes];
  if (!known) throw new Error(`--size: ${size}, expected one of ${Object.keys(pythiaShapes).join(', ')}`);
  return known;
}

/** Every block without a share of its heads and neurons. */
function withoutUnits({ layers, heads, intermediate }: RandomCausalShape, share: number) {
  const kept = (count: number) => Math.max(1, Math.round(count * (1 - share)));
  return Array.from({ length: layers }, () => ({ heads: kept(heads), neurons: kept(intermediate) }));
}

async function subject(checkpoint: Checkpoint, bits: WeightBits): Promise<Subject> {
  const work = join(folder, 'work');
  await mkdir(work, { recursive: true });
  return subjectOf(checkpoint, bits, work);
}

/** The rounds, ours and theirs; the first warms up and is not counted, every other one begins with the other. */
async function inTurn(subject: Subject, llama: LlamaProcess): Promise<{ ours: Rates; llama: Rates }[]> {
  const runtime = createRuntime({ workers: 1, threads, spinning: true });
  try {
    const loaded = await loadSubject(runtime, subject);
    const engine = await loaded.engine({ generationRows: 1, generationContext: context });
    const own = async (prompt: readonly number[]): Promise<Rates> => {
      await pause(settleMs);
      const { times, firstTokenMs } = await engineStream(engine, prompt, tokens);
      return { prefill: (1000 * prompt.length) / firstTokenMs, decode: rateOf([times]) };
    };
    const theirs = async (prompt: readonly number[]): Promise<Rates> => {
      await pause(settleMs);
      const { prefillMs, decodeMs, ids } = await llama.run(prompt, tokens);
      return { prefill: (1000 * (prompt.length - 1)) / prefillMs, decode: (1000 * ids.length) / decodeMs };
    };
    const taken: { ours: Rates; llama: Rates }[] = [];
    for (let round = 0; round <= rounds; round++) {
      const prompt = promptOf(promptLength, shape.vocabulary, round);
      let [mine, other]: (Rates | undefined)[] = [];
      if (round % 2 === 0) mine = await own(prompt);
      other = await theirs(prompt);
      mine ??= await own(prompt);
      if (round > 0) taken.push({ ours: mine, llama: other });
    }
    await engine.close();
    await loaded.session.dispose();
    return taken;
  } finally {
    await runtime.close();
  }
}

function row(bits: WeightBits, share: number, taken: readonly { ours: Rates; llama: Rates }[]): void {
  const of = (value: (round: { ours: Rates; llama: Rates }, kind: keyof Rates) => number): Rates => ({
    prefill: median(taken.map((round) => value(round, 'prefill'))),
    decode: median(taken.map((round) => value(round, 'decode'))),
  });
  rows.push({
    bits,
    removed: share,
    ours: of(({ ours }, kind) => ours[kind]),
    llama: of(({ llama }, kind) => llama[kind]),
    ratio: of(({ ours, llama }, kind) => ours[kind] / llama[kind]),
  });
}

function print(): void {
  const head = ['bits', 'removed', 'prefill tok/s', 'llama.cpp', 'ratio', 'decode tok/s', 'llama.cpp', 'ratio'];
  const table = new Table({ head });
  for (const { bits, removed, ours, llama, ratio } of rows) {
    const [prefill, decode] = (['prefill', 'decode'] as const).map((kind) => [
      ours[kind].toFixed(0),
      llama[kind].toFixed(0),
      ratio[kind].toFixed(2),
    ]);
    table.push([bits, `${(100 * removed).toFixed(0)} %`, ...prefill!, ...decode!]);
  }
  console.log(table.toString());
  console.log(
    `pythia-${options.size}, random weights, ${threads} threads, prompt of ${promptLength}, ${tokens} new tokens; llama.cpp always has the dense model.`,
  );
  printBars(bars);
}
