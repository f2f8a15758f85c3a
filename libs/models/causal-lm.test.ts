import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { loadGraph } from '../runtime/load-graph.js';
import { createRuntime } from '../runtime/runtime.js';
import type { TensorValue } from '../runtime/tensor.js';
import { buildCausalLm, causalSpecOf, type CausalLmOptions } from './causal-lm.js';
import { asFloat32, checkFinite, openCheckpoint, type Checkpoint } from './checkpoint.js';
import { lowerings } from './classifier.js';
import { GATE_KINDS, unitsOf } from './gates.js';
import { readSafetensors, readTensor, readTensorBytes } from './safetensors.js';
import { writeRandomCausalLm, type RandomCausalShape } from './testing/random-causal.js';

const root = await mkdtemp(join(tmpdir(), 'heartwood-causal-'));
const runtime = createRuntime({ workers: 1, threads: 1 });
after(async () => {
  await runtime.close();
  await rm(root, { recursive: true, force: true });
});

const small: RandomCausalShape = { hidden: 24, layers: 3, heads: 3, intermediate: 40, vocabulary: 50, context: 32 };
const names = Object.keys(lowerings) as (keyof typeof lowerings)[];
let written = 0;

async function checkpointOf(change: Partial<RandomCausalShape> = {}): Promise<Checkpoint> {
  return openCheckpoint(await writeRandomCausalLm(join(root, `model-${written++}`), { ...small, ...change }));
}

async function logitsOf(
  checkpoint: Checkpoint,
  options: Pick<CausalLmOptions, 'lowering' | 'gates'>,
  ids: readonly (readonly number[])[],
  gates: Record<string, TensorValue> = {},
): Promise<Float32Array> {
  const { g, logits } = buildCausalLm(checkpoint, { ...options, positions: ids[0]!.length });
  const session = await loadGraph(runtime, g.build([g.named('logits', logits)]), root);
  const data = BigInt64Array.from(ids.flat(), (id) => BigInt(id));
  const inputIds = { type: 'int64', dims: [ids.length, ids[0]!.length], data } as const;
  const result = await session.run({ input_ids: inputIds, ...gates });
  await session.dispose();
  return result['logits']!.data as Float32Array;
}

function assertClose(actual: ArrayLike<number>, expected: ArrayLike<number>, tolerance: number) {
  assert.equal(actual.length, expected.length);
  for (let i = 0; i < actual.length; i++) {
    assert.ok(Math.abs(actual[i]! - expected[i]!) <= tolerance, `[${i}]: ${actual[i]} for ${expected[i]}`);
  }
}

const largest = (values: Float32Array, others: Float32Array) =>
  values.reduce((worst, value, i) => Math.max(worst, Math.abs(value - others[i]!)), 0);

describe('GPT-NeoX against its golden file', () => {
  const folder = join(process.cwd(), '..', 'shared', 'golden', 'gpt-neox');
  const skip = existsSync(folder) ? false : 'no ../shared with golden checkpoints';
  for (const lowering of names) {
    test(`${lowering}: the logits of PyTorch within 1e-4`, { skip }, async () => {
      const { tensors } = await readSafetensors(join(folder, 'reference.safetensors'));
      const input = tensors.get('input_ids')!;
      const flat = Array.from(new BigInt64Array((await readTensorBytes(input)).buffer), Number);
      const [batch, length] = input.shape as [number, number];
      const ids = Array.from({ length: batch }, (_, b) => flat.slice(b * length, (b + 1) * length));
      const expected = await readTensor(tensors.get('logits')!);
      assertClose(await logitsOf(await openCheckpoint(folder), { lowering }, ids), expected, 1e-4);
    });
  }
});

const sentences = [
  [3, 17, 42, 5, 5, 49, 0, 21],
  [8, 30, 2, 11, 44, 6, 19, 33],
];

const variants: [string, Partial<RandomCausalShape>][] = [
  ['parallel residual', {}],
  ['sequential residual', { parallelResidual: false }],
  ['tied embeddings', { tied: true }],
  ['a head of one turned pair', { rotaryShare: 0.25 }],
  ['heads turned whole', { rotaryShare: 1 }],
  ['nothing turned', { rotaryShare: 0 }],
  ['heads that the kernel turns', { hidden: 48, rotaryShare: 1 }],
  ['heads that the kernel could turn in another order', { hidden: 48, rotaryShare: 0.25 }],
  ['uneven blocks', { blocks: [{ heads: 1, neurons: 7 }, { heads: 3, neurons: 40 }, { heads: 2, neurons: 1 }] }],
  ['the tanh approximation', { activation: 'gelu_new' }],
  ['ReLU', { activation: 'relu' }],
  ['no biases in attention', { attentionBias: false }],
];

describe('lowerings', () => {
  for (const [what, change] of variants) {
    test(`${what}: fused answers as canonical`, async () => {
      const checkpoint = await checkpointOf(change);
      const reference = await logitsOf(checkpoint, { lowering: 'canonical' }, sentences);
      assert.ok(reference.every(Number.isFinite));
      assertClose(await logitsOf(checkpoint, { lowering: 'fused' }, sentences), reference, 1e-4);
    });
  }

  for (const lowering of names) {
    test(`${lowering}: no token sees one after it, and a sequence is its own`, async () => {
      const checkpoint = await checkpointOf();
      const vocabulary = small.vocabulary;
      const both = await logitsOf(checkpoint, { lowering }, sentences);
      const alone = await logitsOf(checkpoint, { lowering }, [sentences[0]!.slice(0, 5)]);
      assertClose(both.slice(0, 5 * vocabulary), alone, 1e-5);
      const changed = await logitsOf(checkpoint, { lowering }, [[...sentences[0]!.slice(0, 7), 1], sentences[1]!]);
      assertClose(changed.slice(0, 7 * vocabulary), both.slice(0, 7 * vocabulary), 1e-5);
      assert.ok(largest(changed, both) > 1e-2, 'the last token matters to itself');
    });
  }
});

test('gates of one change nothing; each kind matters; a mask gate near zero of a token hides it from those after it', async () => {
  const checkpoint = await checkpointOf();
  const spec = causalSpecOf(checkpoint);
  const plain = await logitsOf(checkpoint, { lowering: 'canonical' }, sentences);
  const ones = (kind: (typeof GATE_KINDS)[number], change?: number): TensorValue => {
    const units = unitsOf({ blocks: spec.blocks, tokens: 8 }, kind).reduce((a, b) => a + b, 0);
    const data = new Float32Array(2 * units).fill(1);
    if (change !== undefined) data[1] = change;
    return { type: 'float32', dims: [2, units], data };
  };
  const all = Object.fromEntries(GATE_KINDS.map((kind) => [kind, ones(kind)]));
  assertClose(await logitsOf(checkpoint, { lowering: 'canonical', gates: GATE_KINDS }, sentences, all), plain, 1e-5);
  for (const kind of GATE_KINDS) {
    const changed = await logitsOf(checkpoint, { lowering: 'canonical', gates: [kind] }, sentences, { [kind]: ones(kind, 0.1) });
    assert.ok(largest(changed, plain) > 1e-4, kind);
    assertClose(changed.slice(400), plain.slice(400), 1e-6);
  }
  // Token 1 is masked for itself as well, so only what stands before it is untouched.
  const hidden = await logitsOf(checkpoint, { lowering: 'canonical', gates: ['masks'] }, sentences, { masks: ones('masks', 1e-30) });
  assertClose(hidden.slice(0, 50), plain.slice(0, 50), 1e-6);
});

describe('checkpoints as downloaded', () => {
  test('a byte order mark before config.json is no part of it', async () => {
    const { directory, config } = await checkpointOf();
    await writeFile(join(directory, 'config.json'), `\ufeff${JSON.stringify(config)}`);
    assert.deepEqual((await openCheckpoint(directory)).config, config);
  });

  test('the old fields of the rotary embedding say what the new ones say', async () => {
    const rotary = { rotaryShare: 0.5, rotaryBase: 500 } as const;
    const [renamed, original] = [await checkpointOf(rotary), await checkpointOf({ ...rotary, rotaryFields: 'old' })];
    assert.deepEqual(causalSpecOf(original).rotary, { width: 4, base: 500 });
    const reference = await logitsOf(renamed, { lowering: 'canonical' }, sentences);
    assertClose(await logitsOf(original, { lowering: 'canonical' }, sentences), reference, 0);
    assert.ok(largest(await logitsOf(await checkpointOf(), { lowering: 'canonical' }, sentences), reference) > 1e-3);
  });

  for (const type of ['float16', 'bfloat16'] as const) {
    test(`${type} in three shards, with the buffers of old versions`, async () => {
      const checkpoint = await checkpointOf({ type, shards: 3, buffers: true });
      await checkFinite(checkpoint);
      const wide = await asFloat32(checkpoint, root);
      const answer = await logitsOf(wide, { lowering: 'canonical' }, sentences);
      const exact = await logitsOf(await checkpointOf(), { lowering: 'canonical' }, sentences);
      const difference = largest(answer, exact);
      assert.ok(difference > 0 && difference < (type === 'float16' ? 0.02 : 0.2), `${difference}`);
    });
  }

  test('tied embeddings are used though a matrix of their own is there', async () => {
    const untied = await checkpointOf();
    const config = JSON.parse(await readFile(join(untied.directory, 'config.json'), 'utf8')) as object;
    await writeFile(join(untied.directory, 'config.json'), JSON.stringify({ ...config, tie_word_embeddings: true }));
    const tied = await logitsOf(await openCheckpoint(untied.directory), { lowering: 'canonical' }, sentences);
    assert.ok(largest(tied, await logitsOf(untied, { lowering: 'canonical' }, sentences)) > 0.1);
  });
});

describe('bad checkpoints', () => {
  const cases: [string, Record<string, unknown>, RegExp][] = [
    ['another activation', { hidden_act: 'silu' }, /config\.json: hidden_act: silu, expected one of gelu/],
    ['stretched positions', { rope_scaling: { type: 'linear', factor: 2 } }, /config\.json: rope_scaling\.rope_type: linear, expected default/],
    ['half a pair', { rope_parameters: { partial_rotary_factor: 0.4 } }, /rotary_pct: 0\.4 of a head of 8 is 3, expected an even number/],
    ['a layer too many', { num_hidden_layers: 4 }, /tensor gpt_neox\.layers\.3\.input_layernorm\.weight is missing, expected \[24\]/],
    ['a layer too few', { num_hidden_layers: 2 }, /num_hidden_layers: 2, but the weights have 3 layers, expected all/],
    ['heads that do not divide', { num_attention_heads: 5 }, /num_attention_heads: 5 does not divide hidden_size 24/],
    ['another vocabulary', { vocab_size: 60 }, /tensor gpt_neox\.embed_in\.weight has the shape \[50, 24\], expected \[60, 24\]/],
    ['another width', { hidden_size: 48 }, /tensor \S+ has the shape \[.*\], expected \[/],
    ['no number', { layer_norm_eps: 'small' }, /config\.json: layer_norm_eps: .*expected number/],
    ['an image model', { architectures: ['ViTForImageClassification'] }, /"ViTForImageClassification" is not supported, expected one of GPTNeoXForCausalLM/],
    ...['vocab_size', 'hidden_size', 'num_hidden_layers', 'num_attention_heads', 'intermediate_size'].map(
      (field): [string, Record<string, unknown>, RegExp] => [
        `no ${field}`,
        { [field]: undefined },
        new RegExp(`config\\.json: ${field}: missing, expected a whole number from 1 to 1048576$`),
      ],
    ),
    ['no context', { max_position_embeddings: undefined }, /max_position_embeddings: missing, expected a whole number from 2 to 262144$/],
    ['a context of a prompt alone', { max_position_embeddings: 1 }, /max_position_embeddings: 1, expected a whole number from 2 to/],
    ['an endless context', { max_position_embeddings: 1e6 }, /max_position_embeddings: 1000000, expected a whole number from 2 to 262144$/],
    ['half a layer', { num_hidden_layers: 2.5 }, /num_hidden_layers: 2\.5, expected a whole number/],
    ['a short context', { max_position_embeddings: 7 }, /8 positions, expected at most its context of 7/],
  ];
  for (const [what, change, expected] of cases) {
    test(what, async () => {
      const { directory } = await checkpointOf();
      const file = join(directory, 'config.json');
      const config = JSON.parse(await readFile(file, 'utf8')) as object;
      await writeFile(file, JSON.stringify({ ...config, ...change }));
      const checkpoint = await openCheckpoint(directory);
      assert.throws(() => buildCausalLm(checkpoint, { lowering: 'canonical', positions: 8 }), expected);
    });
  }
});
