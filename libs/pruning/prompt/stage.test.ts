import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { randomFor } from '../../data/random.js';
import { buildCausalLm } from '../../models/causal-lm.js';
import { openCheckpoint } from '../../models/checkpoint.js';
import { generationGraph, type BlockCache } from '../../models/generation-graph.js';
import { packAttention } from '../../models/packed-attention.js';
import { Generating } from '../../models/testing/generation.js';
import { writeRandomCausalLm } from '../../models/testing/random-causal.js';
import { checkpointWeights } from '../../models/weights.js';
import type { Graph } from '../../onnx/ir.js';
import { loadGraph } from '../../runtime/load-graph.js';
import { createRuntime, type Session } from '../../runtime/runtime.js';
import type { TensorValue } from '../../runtime/tensor.js';
import { applyProbe, normaliseRows } from '../predictor/probe.js';
import { interpolate, type BudgetTable } from '../stages/budget.js';
import { promptFeatures } from './features.js';
import type { PromptStage } from './parameters.js';
import { measuredGeneration, servedGeneration } from './served-graph.js';

const root = await mkdtemp(join(tmpdir(), 'heartwood-prompt-'));
const runtime = createRuntime({ workers: 1, threads: 1 });
after(async () => {
  await runtime.close();
  await rm(root, { recursive: true, force: true });
});

const [D, layers, vocabulary] = [48, 4, 40];
const shape = { hidden: D, layers, heads: 3, intermediate: 64, vocabulary, context: 64 };
const blocks = [
  { heads: 3, neurons: 64 },
  { heads: 1, neurons: 20 },
  { heads: 2, neurons: 64 },
  { heads: 3, neurons: 9 },
];
const checkpoint = await openCheckpoint(await writeRandomCausalLm(join(root, 'model'), { ...shape, blocks, seed: 5 }));
const packed = await packAttention(checkpoint, root);
const weights = () => checkpointWeights(checkpoint, packed);

const recent = 2;
const stages: PromptStage[] = [1, 3].map((block) => {
  const random = randomFor(block);
  const numbers = (count: number) => Float32Array.from({ length: count }, () => random.next() / 2 ** 31);
  return {
    block,
    recent,
    probe: { matrix: numbers(2 * D * 5), bias: numbers(5), output: numbers(5), outputBias: 0.3 },
  };
});

const prompt = Array.from({ length: 20 }, (_, i) => (i * i * 3 + 5 * i + 2) % vocabulary);
const rest = [7, 31, 2, 18, 9];

async function load(graph: Graph): Promise<Session> {
  return loadGraph(runtime, graph, root);
}

const row = (values: readonly number[]): TensorValue => ({
  type: 'float32',
  dims: [1, values.length],
  data: Float32Array.from(values),
});
const floats = (value: TensorValue | undefined) => [...(value!.data as Float32Array)];

/** The prompt in chunks, then further tokens one by one: logits of the last token of each run, and what else came out of the prompt's. */
async function generate(
  session: Session,
  caches: readonly BlockCache[],
  chunk: number,
  feeds: Record<string, TensorValue>,
) {
  const stream = new Generating(session, caches, 1, 32);
  const runs: Record<string, TensorValue>[] = [];
  for (let from = 0; from < prompt.length; from += chunk)
    runs.push(await stream.step({ ids: [prompt.slice(from, from + chunk)], feeds }));
  const chunks = runs.length;
  for (const id of rest) runs.push(await stream.step({ ids: [[id]], feeds }));
  return { logits: runs.slice(chunks - 1).map((run) => floats(run['logits'])), runs };
}

/** Logits of the last prompt token and those after it where some tokens are masked from some blocks on. */
async function masked(dropped: ReadonlyMap<number, readonly number[]>): Promise<number[][]> {
  const ids = [...prompt, ...rest];
  const { g, logits } = buildCausalLm(checkpoint, {
    lowering: 'canonical',
    positions: ids.length,
    batch: 1,
    gates: ['masks'],
  });
  const session = await load(g.build([g.named('logits', logits)]));
  const masks = new Float32Array(layers * ids.length).fill(1);
  for (const [block, tokens] of dropped) for (const token of tokens) masks[block * ids.length + token] = 1e-30;
  const data = BigInt64Array.from(ids, (id) => BigInt(id));
  const result = await session.run({
    input_ids: { type: 'int64', dims: [1, ids.length], data },
    masks: row([...masks]),
  });
  await session.dispose();
  const all = floats(result['logits']);
  return Array.from({ length: rest.length + 1 }, (_, i) => {
    const at = (prompt.length - 1 + i) * vocabulary;
    return all.slice(at, at + vocabulary);
  });
}

function assertClose(actual: readonly number[], expected: readonly number[], tolerance: number, what: string) {
  assert.equal(actual.length, expected.length, what);
  actual.forEach((value, i) =>
    assert.ok(Math.abs(value - expected[i]!) <= tolerance, `${what}, [${i}]: ${value} for ${expected[i]}`),
  );
}

const measured = measuredGeneration(checkpoint, weights, stages);
const session = await load(measured.graph);

describe('stages that drop tokens of a prompt', () => {
  for (const chunk of [20, 7]) {
    test(`in chunks of ${chunk}: what is dropped is as good as masked from its block on, and positions stay`, async () => {
      const open = await generate(session, measured.caches, chunk, { thresholds: row([-Infinity, -Infinity]) });
      const scores = open.runs.slice(0, -rest.length).flatMap((run) => floats(run['score_0']));
      const threshold = [...scores].sort((a, b) => a - b)[12]!;
      const ends = [...prompt.keys()].filter((at) => at === prompt.length - 1 || (at + 1) % chunk === 0);
      const asked = (at: number) => ends.some((end) => at <= end && at > end - recent);
      const stays = (at: number) => scores[at]! >= threshold || at === 0 || asked(at);
      const first = prompt.map((_, at) => at).filter((at) => !stays(at));
      const after = prompt.map((_, at) => at).filter(stays);
      assert.ok(first.length >= 5);

      const probe = await generate(session, measured.caches, chunk, { thresholds: row([threshold, -Infinity]) });
      assertClose(probe.logits.flat(), (await masked(new Map([[1, first]]))).flat(), 1e-4, 'one stage');

      const later = probe.runs.slice(0, -rest.length).flatMap((run) => floats(run['score_1']));
      assert.equal(later.length, after.length);
      const second = [...later].sort((a, b) => a - b)[4]!;
      const gone = after.filter((at, i) => later[i]! < second && at > 0 && !asked(at));
      assert.ok(gone.length >= 1);
      const both = await generate(session, measured.caches, chunk, { thresholds: row([threshold, second]) });
      const expected = await masked(
        new Map([
          [1, first],
          [3, [...first, ...gone]],
        ]),
      );
      assertClose(both.logits.flat(), expected.flat(), 1e-4, 'both stages');

      const kept = both.runs.slice(0, -rest.length).map((run) => [...(run['tokens_kept']!.data as Int32Array)]);
      const total = kept.reduce((sum, each) => sum.map((value, i) => value + each[i]!), [0, 0]);
      assert.deepEqual(total, [after.length, after.length - gone.length]);
      const cached = [...(both.runs.at(-1)!['cached_after']!.data as Int32Array)];
      assert.deepEqual(
        cached,
        [prompt.length, ...total].map((count) => count + rest.length),
      );
    });
  }

  test('the scores are those of the predictor, and nothing after a token changes its own', async () => {
    const { g, entering } = buildCausalLm(checkpoint, { lowering: 'canonical', positions: prompt.length, batch: 1 });
    const dense = await load(g.build([g.named('x', entering[1]!)]));
    const data = BigInt64Array.from(prompt, (id) => BigInt(id));
    const x = await dense.run({ input_ids: { type: 'int64', dims: [1, prompt.length], data } });
    await dense.dispose();
    const features = normaliseRows(promptFeatures(x['x']!.data as Float32Array, D, 7), 2 * D);
    const { matrix: token, ...others } = stages[0]!.probe;
    const nothing = new Float32Array(2 * D * 5);
    const probe = { ...others, token, classToken: nothing, meanToken: nothing };
    const [none, sequence] = [new Float32Array(2 * D), prompt.map(() => 0)];
    const expected = [...applyProbe(probe, features, none, none, sequence)];
    const thresholds = { thresholds: row([-Infinity, -Infinity]) };
    const { runs } = await generate(session, measured.caches, 7, thresholds);
    const scores = runs.slice(0, 3).flatMap((run) => floats(run['score_0']));
    assertClose(scores, expected, 1e-3, 'scores');
    const early = new Generating(session, measured.caches, 1, 32);
    const part = await early.step({ ids: [prompt.slice(0, 4)], feeds: thresholds });
    assertClose(floats(part['score_0']), scores.slice(0, 4), 1e-5, 'without the tokens after them');
  });

  test('everything may go: the first position stays, and the wanted tokens with those right before them', async () => {
    const stream = new Generating(session, measured.caches, 1, 32);
    const thresholds = { thresholds: row([Infinity, Infinity]) };
    const run = await stream.step({ ids: [prompt], wanted: [[19, 6]], feeds: thresholds });
    assert.deepEqual([...(run['tokens_kept']!.data as Int32Array)], [5, 5]);
    const gone = prompt.map((_, at) => at).filter((at) => ![0, 5, 6, 18, 19].includes(at));
    const expected = await masked(new Map([[1, gone]]));
    assertClose(floats(run['logits']).slice(0, vocabulary), expected[0]!, 1e-4, 'the last token');
    // A later chunk has no first position: the wanted token and the one before it are left of it.
    const next = await stream.step({ ids: [rest], feeds: thresholds });
    assert.deepEqual([...(next['tokens_kept']!.data as Int32Array)], [2, 2]);
  });

  test('several sequences that generate drop nothing', async () => {
    const together = new Generating(session, measured.caches, 3, 32);
    const alone = [3, 8, 21].map(() => new Generating(session, measured.caches, 1, 32));
    const infinite = (batch: number) => ({
      thresholds: { type: 'float32', dims: [batch, 2], data: new Float32Array(2 * batch).fill(Infinity) } as const,
    });
    for (let t = 0; t < 4; t++) {
      const ids = [3, 8, 21].map((first) => (first + 5 * t) % vocabulary);
      const joined = await together.step({ ids: ids.map((id) => [id]), feeds: infinite(3) });
      assert.deepEqual([...(joined['tokens_kept']!.data as Int32Array)], [1, 1, 1, 1, 1, 1]);
      for (const [b, stream] of alone.entries()) {
        const own = floats((await stream.step({ ids: [[ids[b]!]], feeds: infinite(1) }))['logits']);
        const row = floats(joined['logits']).slice(b * vocabulary, (b + 1) * vocabulary);
        assertClose(row, own, 1e-4, `sequence ${b}`);
      }
    }
  });

  test('as served the budget decides: 0 is the dense model bit for bit, more of it drops more', async () => {
    const open = await generate(session, measured.caches, 7, { thresholds: row([-Infinity, -Infinity]) });
    const scores = [0, 1].map((stage) =>
      open.runs
        .slice(0, 3)
        .flatMap((run) => floats(run[`score_${stage}`]))
        .sort((a, b) => a - b),
    );
    const thresholdsAt = (share: number) => scores.map((sorted) => sorted[Math.floor(share * sorted.length)]!);
    const table: BudgetTable = {
      scale: 1,
      rows: [0.1, 0.5, 0.9].map((share) => ({
        flopsSaved: share,
        kl: share ** 2 / 10,
        thresholds: thresholdsAt(share),
      })),
    };
    const served = servedGeneration(checkpoint, weights, stages, table);
    const own = await load(served.graph);
    const plain = generationGraph(checkpoint, { weights });
    const dense = await load(plain);
    const reference = await generate(dense, plain.caches, 7, {});
    const zero = await generate(own, served.caches, 7, { budget: row([0]) });
    assert.deepEqual(zero.logits, reference.logits);
    const kept: number[] = [];
    for (const budget of [0.001, 0.02, 0.081]) {
      const { runs, logits } = await generate(own, served.caches, 7, { budget: row([budget]) });
      const expected = await generate(session, measured.caches, 7, { thresholds: row(interpolate(table, budget)) });
      assertClose(logits.flat(), expected.logits.flat(), 1e-4, `budget ${budget}`);
      kept.push(runs.slice(0, 3).reduce((sum, run) => sum + (run['tokens_kept']!.data as Int32Array)[1]!, 0));
    }
    assert.ok(kept[0]! > kept[2]! && kept[0]! >= kept[1]! && kept[1]! >= kept[2]!, kept.join());
    await own.dispose();
    await dense.dispose();
  });
});

after(() => session.dispose());
