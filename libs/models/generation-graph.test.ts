import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { blockedProducts } from '../onnx/blocked-products.js';
import { countFlops } from '../onnx/flops.js';
import { loadGraph } from '../runtime/load-graph.js';
import { createRuntime } from '../runtime/runtime.js';
import { buildCausalLm } from './causal-lm.js';
import { openCheckpoint, type Checkpoint } from './checkpoint.js';
import { generationGraph } from './generation-graph.js';
import { packAttention } from './packed-attention.js';
import { Generating } from './testing/generation.js';
import { writeRandomCausalLm, type RandomCausalShape } from './testing/random-causal.js';
import { checkpointWeights } from './weights.js';

const root = await mkdtemp(join(tmpdir(), 'heartwood-generation-'));
const runtime = createRuntime({ workers: 1, threads: 1 });
after(async () => {
  await runtime.close();
  await rm(root, { recursive: true, force: true });
});

const vocabulary = 50;
const small: RandomCausalShape = { hidden: 64, layers: 3, heads: 2, intermediate: 40, vocabulary, context: 64 };
let written = 0;

async function checkpointOf(change: Partial<RandomCausalShape>): Promise<Checkpoint> {
  return openCheckpoint(await writeRandomCausalLm(join(root, `model-${written++}`), { ...small, ...change }));
}

const ids = (seed: number, length: number) => Array.from({ length }, (_, i) => (seed * 31 + i * i * 7 + 3 * i) % vocabulary);

/** Canonical logits at every position, [positions][vocabulary]. */
async function reference(checkpoint: Checkpoint, sequence: readonly number[]): Promise<Float32Array[]> {
  const { g, logits } = buildCausalLm(checkpoint, { lowering: 'canonical', positions: sequence.length, batch: 1 });
  const session = await loadGraph(runtime, g.build([g.named('logits', logits)]), root);
  const data = BigInt64Array.from(sequence, (id) => BigInt(id));
  const result = await session.run({ input_ids: { type: 'int64', dims: [1, sequence.length], data } });
  await session.dispose();
  return rowsOf(result['logits']!.data as Float32Array);
}

function rowsOf(logits: Float32Array): Float32Array[] {
  const count = logits.length / vocabulary;
  return Array.from({ length: count }, (_, i) => logits.slice(i * vocabulary, (i + 1) * vocabulary));
}

async function load(checkpoint: Checkpoint, form: 'plain' | 'blocked' = 'plain') {
  const packed = await packAttention(checkpoint, root);
  const graph = generationGraph(checkpoint, { weights: () => checkpointWeights(checkpoint, packed) });
  const loaded = form === 'plain' ? graph : blockedProducts(graph);
  assert.ok(loaded, 'there are products to replace');
  return { graph, session: await loadGraph(runtime, loaded, root) };
}

function assertClose(actual: ArrayLike<number>, expected: ArrayLike<number>, tolerance: number, what: string) {
  assert.equal(actual.length, expected.length, what);
  for (let i = 0; i < actual.length; i++) {
    assert.ok(Math.abs(actual[i]! - expected[i]!) <= tolerance, `${what}, [${i}]: ${actual[i]} for ${expected[i]}`);
  }
}

const uneven = [
  { heads: 1, neurons: 7 },
  { heads: 2, neurons: 40 },
  { heads: 1, neurons: 33 },
];
const variants: [string, Partial<RandomCausalShape>][] = [
  ['parallel residual', {}],
  ['sequential residual', { parallelResidual: false }],
  ['tied embeddings', { tied: true }],
  ['uneven blocks', { blocks: uneven }],
  ['uneven blocks, sequential, tied', { blocks: uneven, parallelResidual: false, tied: true }],
  ['as many pairs as the kernel turns', { rotaryShare: 0.5 }],
  ['heads turned whole', { rotaryShare: 1 }],
  ['nothing turned', { rotaryShare: 0 }],
  ['heads that the kernel cannot turn', { heads: 8 }],
  ['no biases in attention, ReLU', { attentionBias: false, activation: 'relu' }],
];

describe('the generation graph', () => {
  for (const [at, [what, change]] of variants.entries()) {
    test(`${what}: a prompt in chunks and tokens one by one answer as the whole sequence`, async () => {
      const checkpoint = await checkpointOf({ ...change, seed: 11 + at });
      const sequence = ids(at, 21);
      const expected = await reference(checkpoint, sequence);
      for (const form of ['plain', 'blocked'] as const) {
        const { graph, session } = await load(checkpoint, form);
        const stream = new Generating(session, graph.caches, 1, 24);
        const check = (result: Record<string, { data: unknown }>, tokens: readonly number[]) =>
          rowsOf(result['logits']!.data as Float32Array).forEach((row, i) =>
            assertClose(row, expected[tokens[i]!]!, 1e-4, `${form}, token ${tokens[i]}`),
          );
        check(await stream.step({ ids: [sequence.slice(0, 8)] }), [7]);
        check(await stream.step({ ids: [sequence.slice(8, 13)], wanted: [[4, 0, 2]] }), [12, 8, 10]);
        for (let t = 13; t < 21; t++) check(await stream.step({ ids: [[sequence[t]!]] }), [t]);
        await session.dispose();
      }
    });
  }

  test('sequences of several lengths decode together as each does alone', async () => {
    const checkpoint = await checkpointOf({ blocks: uneven });
    const sequences = [ids(1, 12), ids(2, 7), ids(3, 3)];
    const { graph, session } = await load(checkpoint);
    const alone = sequences.map(() => new Generating(session, graph.caches, 1, 16));
    const lengths = sequences.map((sequence) => sequence.length);
    const together = new Generating(session, graph.caches, 3, 16);
    // The prompts go into the rows of the batch one token at a time; who is done repeats its last token at its place.
    for (let t = 0; t < 12; t++) {
      const at = lengths.map((length) => Math.min(t, length - 1));
      together.rewind(at);
      await together.step({ ids: at.map((i, b) => [sequences[b]![i]!]), from: at });
    }
    await Promise.all(alone.map((stream, b) => stream.step({ ids: [sequences[b]!] })));
    together.rewind(lengths);
    const next = [[5], [17], [41]];
    const joined = await together.step({ ids: next, from: lengths });
    for (const [b, stream] of alone.entries()) {
      const own = await stream.step({ ids: [next[b]!] });
      const logits = (joined['logits']!.data as Float32Array).slice(b * vocabulary, (b + 1) * vocabulary);
      assertClose(logits, own['logits']!.data as Float32Array, 1e-4, `sequence ${b}`);
      assert.equal((joined['cached_after']!.data as Int32Array)[b], lengths[b]! + 1);
    }
    await session.dispose();
  });

  test('tokens are at the positions that they are said to be at, whatever is between them', async () => {
    const checkpoint = await checkpointOf({});
    const { graph, session } = await load(checkpoint);
    const logitsAt = async (positions: readonly number[], chunk: number) => {
      const stream = new Generating(session, graph.caches, 1, 16);
      const tokens = [3, 9, 7, 22, 4];
      let last: Float32Array | undefined;
      for (let at = 0; at < 5; at += chunk) {
        const part = { ids: [tokens.slice(at, at + chunk)], positions: [positions.slice(at, at + chunk)] };
        last = (await stream.step(part))['logits']!.data as Float32Array;
      }
      return last!;
    };
    const [together, apart] = [[0, 1, 2, 3, 4], [0, 4, 5, 9, 30]];
    const reference = await logitsAt(apart, 1);
    for (const chunk of [5, 3]) assertClose(await logitsAt(apart, chunk), reference, 1e-4, `in chunks of ${chunk}`);
    const near = await logitsAt(together, 5);
    assert.ok(near.some((value, i) => Math.abs(value - reference[i]!) > 1e-2), 'the distances matter');
    await session.dispose();
  });

  test('what it computes is counted: matrices by token, the vocabulary by wanted token, attention by place of the cache', async () => {
    const { graph, session } = await load(await checkpointOf({}));
    await session.dispose();
    const flops = (S: number, K: number, C: number) => countFlops(graph, { B: 1, S, K, C }).total;
    const matrices = 2 * (4 * 64 * 64 + 2 * 64 * 40);
    const token = flops(2, 1, 8) - flops(1, 1, 8);
    assert.ok(token > 2 * matrices && token < 4 * matrices, `${token} of ${matrices} in each of 2 to 3 blocks`);
    assert.ok(flops(2, 2, 8) - flops(2, 1, 8) > 2 * 64 * vocabulary);
    assert.ok(flops(2, 1, 16) - flops(2, 1, 8) >= 3 * 2 * 8 * 4 * 64);
  });

  test('queries, keys and values of another shape are refused before they are packed', async () => {
    const checkpoint = await checkpointOf({});
    const name = 'gpt_neox.layers.1.attention.query_key_value.weight';
    const tensors = new Map(checkpoint.tensors);
    tensors.set(name, { ...tensors.get(name)!, shape: [64, 192] });
    await assert.rejects(packAttention({ ...checkpoint, tensors }, root), {
      code: 'INVALID_ARGUMENT',
      message: /tensor gpt_neox\.layers\.1\.attention\.query_key_value\.weight has the shape \[64, 192\], expected \[192, 64\]/,
    });
  });
});
