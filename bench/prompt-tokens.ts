/**
 * npm run bench:prompt-tokens -- [--json FILE] [--model DIR] [--data DATA] [--test DATA] [--positions T] [--prompt P] [--windows N] [--skip-timing]
 *
 * Dropping tokens of prompts between blocks: what it loses after the prompt (KL to the model that drops nothing, nats a prediction, on
 * documents that nothing was fitted on) when tokens are chosen by predicted curvature, and by attention, magnitude and chance; and the time of
 * a prefill that it saves, on random weights in the shape of pythia-160m, as served.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, cpus, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { promptCurvature } from '../libs/curvature/prompt-curvature.js';
import { permutation, randomFor } from '../libs/data/random.js';
import type { TextDataset } from '../libs/data/text/dataset.js';
import { openText } from '../libs/data/text/open.js';
import { openTokenizer } from '../libs/data/text/tokenizer.js';
import { causalSpecOf } from '../libs/models/causal-lm.js';
import { asFloat32, openCheckpoint } from '../libs/models/checkpoint.js';
import { packAttention } from '../libs/models/packed-attention.js';
import { pythiaShapes, writeRandomCausalLm } from '../libs/models/testing/random-causal.js';
import { checkpointWeights } from '../libs/models/weights.js';
import { meanOf } from '../libs/pruning/measure/measure.js';
import { measurePromptRows, preparePrompts, PromptNetwork } from '../libs/pruning/prompt/calibrate.js';
import { fitPromptStages, recentTokens } from '../libs/pruning/prompt/fit.js';
import { stageBlocks } from '../libs/pruning/prompt/schedule.js';
import type { PromptStage } from '../libs/pruning/prompt/parameters.js';
import { budgetTable } from '../libs/pruning/statistics/thresholds.js';
import { interpolate } from '../libs/pruning/stages/budget.js';
import { createRuntime } from '../libs/runtime/runtime.js';
import { lossesOf, PROMPT_POLICIES, promptScores } from './support/prompt-policies.js';

const { values: options } = parseArgs({
  options: {
    json: { type: 'string' },
    model: { type: 'string', default: 'models/demo-brown' },
    data: { type: 'string', default: 'demo:brown/validation' },
    test: { type: 'string', default: 'demo:brown/test' },
    positions: { type: 'string', default: '256' },
    prompt: { type: 'string', default: '192' },
    windows: { type: 'string', default: '64' },
    'skip-timing': { type: 'boolean', default: false },
  },
});
const chunk = 128;
const shares = [0.2, 0.4, 0.6];
const [positions, prompt, count] = [Number(options.positions), Number(options.prompt), Number(options.windows)];
const workDirectory = await mkdtemp(join(tmpdir(), 'heartwood-bench-'));
const runtime = createRuntime();
const rows: Record<string, unknown>[] = [];
const bars: Record<string, unknown>[] = [];
const { signal } = new AbortController();
try {
  await quality();
  if (!options['skip-timing']) await timing();
} finally {
  await runtime.close();
  await rm(workDirectory, { recursive: true, force: true });
}
if (options.json) {
  const machine = { cpu: cpus()[0]?.model, threads: availableParallelism(), memory: totalmem() };
  await writeFile(options.json, `${JSON.stringify({ bench: 'prompt-tokens', machine, rows, bars }, undefined, 2)}\n`);
}

async function quality(): Promise<void> {
  const original = await openCheckpoint(options.model);
  const checkpoint = await asFloat32(original, workDirectory);
  const tokenizer = await openTokenizer(join(options.model, 'tokenizer.json'));
  const { vocabulary, blocks } = causalSpecOf(checkpoint);
  const open = (data: string) => openText(data, tokenizer, { positions, vocabulary });
  const [dataset, unseen] = [await open(options.data), await open(options.test)];
  const { fit, search } = byDocument(dataset);
  const at = stageBlocks(blocks.length);
  const context = { runtime, workDirectory };
  const targets = await promptCurvature(checkpoint, { dataset, indices: fit }, { blocks: at }, context);
  const { stages, fits } = await fitPromptStages(runtime, targets, { chunk, seed: 1 });
  for (const { block, r2, rankCorrelation } of fits) {
    rows.push({ kind: 'fit', block, r2, rankCorrelation });
    console.log(
      `predictor before block ${block}: R² ${r2.toFixed(2)}, rank correlation ${rankCorrelation.toFixed(2)} (unseen documents)`,
    );
  }
  const test = { dataset: unseen, indices: some(unseen, count) };
  const trial = { checkpoint, samples: test, stages, prompt, chunk, runtime, workDirectory };
  const scores = await promptScores(trial);
  const table = new Table({ head: ['KL × 10⁻³, tokens dropped', ...shares.map((share) => `${share * 100} %`)] });
  const byPolicy: Record<string, number[]> = {};
  for (const policy of PROMPT_POLICIES) {
    const pooled = policy === 'curvature' || policy === 'oracle';
    const losses = await lossesOf(trial, scores[policy], shares, pooled);
    byPolicy[policy] = losses.map(({ kl }) => kl);
    losses.forEach(({ kl, dropped }, i) => rows.push({ kind: 'policy', policy, share: shares[i], dropped, kl }));
    table.push([policy, ...losses.map(({ kl }) => (kl * 1000).toFixed(2))]);
  }
  console.log(table.toString());
  shares.forEach((share, i) => {
    const others = Math.min(...(['random', 'magnitude', 'attention'] as const).map((policy) => byPolicy[policy]![i]!));
    const value = byPolicy['curvature']![i]! / others;
    bars.push({
      name: `KL of curvature over the best other at ${share}`,
      value,
      relation: '<=',
      bar: 1,
      holds: value <= 1,
    });
  });
  await asServed(checkpoint, stages, { dataset, indices: search }, test);
}

/** The table of the searched documents, and what its budgets come to on unseen ones. */
async function asServed(
  checkpoint: Awaited<ReturnType<typeof asFloat32>>,
  stages: readonly PromptStage[],
  search: { dataset: TextDataset; indices: readonly number[] },
  test: { dataset: TextDataset; indices: readonly number[] },
): Promise<void> {
  const packed = await packAttention(checkpoint, workDirectory);
  const weights = () => checkpointWeights(checkpoint, packed);
  const network = await PromptNetwork.open(runtime, checkpoint, weights, stages, { prompt, chunk }, workDirectory);
  try {
    const prepare = (samples: typeof search) =>
      preparePrompts(runtime, checkpoint, weights, samples, network.cut, { workDirectory, signal });
    const searched = await prepare(search);
    const measured = await measurePromptRows(network, searched, { signal, progress: () => undefined });
    const table = budgetTable(measured);
    const prepared = await prepare(test);
    const dense = network.flops(stages.map(() => prompt));
    for (const budget of [0.005, 0.02, 0.05]) {
      const { kl, weights: counts, kept, flops } = await network.measure(prepared, interpolate(table, budget), signal);
      const loss = meanOf(kl, counts);
      const share = 1 - kept.at(-1)! / prompt;
      rows.push({ kind: 'served', budget, kl: loss, dropped: share, flopsSaved: 1 - flops / dense });
      console.log(
        `budget ${budget}: KL ${loss.toFixed(4)} on unseen documents, ${(share * 100).toFixed(0)} % of the tokens dropped, ` +
          `${((1 - flops / dense) * 100).toFixed(0)} % of a prefill's FLOPs saved`,
      );
    }
  } finally {
    await network.dispose();
  }
}

/** Prefill of 512 tokens, in turn with nothing, half and three quarters of the tokens dropped. */
async function timing(): Promise<void> {
  const length = 512;
  const folder = await writeRandomCausalLm(join(workDirectory, 'pythia-160m'), pythiaShapes['160m']);
  const checkpoint = await openCheckpoint(folder);
  const { hidden, blocks } = causalSpecOf(checkpoint);
  const random = randomFor(3);
  const numbers = (size: number) => Float32Array.from({ length: size }, () => random.next() / 2 ** 31);
  const stages = stageBlocks(blocks.length).map((block): PromptStage => ({
    block,
    recent: recentTokens,
    probe: { matrix: numbers(2 * hidden * 16), bias: numbers(16), output: numbers(16), outputBias: 0 },
  }));
  const packed = await packAttention(checkpoint, workDirectory);
  const weights = () => checkpointWeights(checkpoint, packed);
  const cut = { prompt: length, chunk };
  const network = await PromptNetwork.open(runtime, checkpoint, weights, stages, cut, workDirectory);
  try {
    const ids = BigInt64Array.from({ length }, (_, i) => BigInt((i * 7919) % 50_000));
    const window = { windows: [{ ids, document: 0 }], dense: [] };
    const variants = [];
    for (const share of [0, 0.5, 0.75]) {
      const each = 1 - (1 - share) ** (1 / stages.length);
      const placed =
        share === 0
          ? stages.map(() => -Infinity)
          : await network.placeThresholds(
              window,
              stages.map(() => each),
              signal,
            );
      variants.push({ share, placed, times: [] as number[], flops: 0 });
    }
    for (let round = 0; round < 5; round++) {
      for (const variant of variants) {
        const { prefillMs, kept } = await network.prefill(ids, variant.placed);
        if (round > 0) variant.times.push(prefillMs);
        variant.flops = network.flops(kept);
      }
    }
    const middle = (times: number[]) => times.sort((a, b) => a - b)[Math.floor(times.length / 2)]!;
    const dense = middle(variants[0]!.times);
    for (const { share, times, flops } of variants) {
      const ms = middle(times);
      rows.push({
        kind: 'prefill',
        tokens: length,
        dropped: share,
        ms,
        timeSaved: 1 - ms / dense,
        flopsSaved: 1 - flops / variants[0]!.flops,
      });
      console.log(
        `pythia-160m, ${length} tokens, ${share * 100} % dropped: prefill ${ms.toFixed(0)} ms, ` +
          `${((1 - ms / dense) * 100).toFixed(0)} % less (${((1 - flops / variants[0]!.flops) * 100).toFixed(0)} % of its FLOPs)`,
      );
    }
  } finally {
    await network.dispose();
  }
}

/** Windows of disjoint documents to fit on and to search with. */
function byDocument(dataset: TextDataset): { fit: number[]; search: number[] } {
  const order = [...permutation(dataset.documents.length, randomFor(2))];
  const fitted = new Set(order.slice(0, Math.ceil(order.length / 2)));
  const all = some(dataset, dataset.size);
  const pick = (inFit: boolean) => all.filter((index) => fitted.has(dataset.documentOf(index)) === inFit);
  return { fit: pick(true).slice(0, 4 * count), search: pick(false).slice(0, count) };
}

/** Windows in a random order that is always the same. */
function some(dataset: TextDataset, most: number): number[] {
  return [...permutation(dataset.size, randomFor(4))].slice(0, most);
}
