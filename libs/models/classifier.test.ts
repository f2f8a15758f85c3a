import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import type { GraphBuilder } from '../onnx/builder.js';
import type { Graph } from '../onnx/ir.js';
import { concat, gather, greater, nonZero, reduceSum, reshape, slice, squeeze, where } from '../onnx/ops/index.js';
import { loadGraph } from '../runtime/load-graph.js';
import { createRuntime } from '../runtime/runtime.js';
import type { TensorValue } from '../runtime/tensor.js';
import { architectures } from './architectures/index.js';
import { openCheckpoint, type Checkpoint } from './checkpoint.js';
import { buildClassifier, lowerings, type ClassifierOptions } from './classifier.js';
import { readSafetensors, readTensor, readTensorBytes, writeSafetensors } from './safetensors.js';
import { writeRandomCheckpoint, type RandomShape } from './testing/random-checkpoint.js';
import { padTokens, packTokens, type AtSeam, type Seam, type Tokens } from './tokens.js';

const root = await mkdtemp(join(tmpdir(), 'heartwood-models-'));
const runtime = createRuntime({ workers: 1, threads: 1 });
after(async () => {
  await runtime.close();
  await rm(root, { recursive: true, force: true });
});

const small: RandomShape = {
  hidden: 24,
  layers: 3,
  heads: 3,
  intermediate: 40,
  imageSize: 16,
  patchSize: 4,
  classes: 5,
};
const checkpoints = new Map<string, Checkpoint>();
for (const architecture of Object.keys(architectures)) {
  const folder = await writeRandomCheckpoint(join(root, architecture), { ...small, architecture });
  checkpoints.set(architecture, await openCheckpoint(folder));
}

async function run(graph: Graph, feeds: Record<string, TensorValue>) {
  const session = await loadGraph(runtime, graph, root);
  const result = await session.run(feeds);
  await session.dispose();
  return result;
}

function logitsGraph(checkpoint: Checkpoint, options: ClassifierOptions): Graph {
  const { g, logits } = buildClassifier(checkpoint, options);
  return g.build([g.named('logits', logits)]);
}

async function logitsOf(checkpoint: Checkpoint, options: ClassifierOptions, feeds: Record<string, TensorValue>) {
  const result = await run(logitsGraph(checkpoint, options), feeds);
  return result['logits']!.data as Float32Array;
}

function pixels(batch: number, side: number): TensorValue {
  const data = Float32Array.from({ length: batch * 3 * side * side }, (_, i) => Math.sin(i * 12.9898) * 1.5);
  return { type: 'float32', dims: [batch, 3, side, side], data };
}

function ones(batch: number, units: number): TensorValue {
  return { type: 'float32', dims: [batch, units], data: new Float32Array(batch * units).fill(1) };
}

function assertClose(actual: ArrayLike<number>, expected: ArrayLike<number>, tolerance: number) {
  assert.equal(actual.length, expected.length);
  for (let i = 0; i < actual.length; i++) {
    assert.ok(Math.abs(actual[i]! - expected[i]!) <= tolerance, `[${i}]: ${actual[i]} for ${expected[i]}`);
  }
}

/** A seam that keeps all but some tokens, which it drops from every sample or from the first alone. */
function dropping(dropped: readonly number[], firstOnly: boolean): AtSeam {
  return (g: GraphBuilder, { block, tokens }: Seam): Tokens => {
    const { layout } = tokens;
    const total = Number(layout.longest);
    const keep = Array.from({ length: total }, (_, i) => (dropped.includes(i) ? 0 : 1));
    const all = keep.map(() => 1);
    // [B, T]: the first sample's row is `keep`.
    const first = reshape(g, g.constant([...keep, ...(firstOnly ? all : keep)], [2, total]), [2, total]);
    const presence = reshape(g, first, [2, total]);
    const kept = greater(g, presence, g.constant(0));
    const coordinates = nonZero(g, kept, `rows_${block}`);
    const row = squeeze(g, slice(g, coordinates, 0, 0, 1), [0]);
    const column = squeeze(g, slice(g, coordinates, 0, 1, 2), [0]);
    const flat = g.emitOne({
      op: 'Add',
      inputs: [g.emitOne({ op: 'Mul', inputs: [row, g.integers(total)], output: row }), column],
      output: row,
    });
    const width = Number(tokens.rows.shape[1]);
    const matrix = reshape(g, padTokens(g, layout, tokens.rows), [2 * total, width]);
    const rows = gather(g, matrix, flat);
    // Places stay where they were, so that padding lies in the middle as well.
    const index = g.emitOne({
      op: 'CumSum',
      inputs: [
        g.emitOne({
          op: 'Cast',
          inputs: [reshape(g, presence, [2 * total])],
          attributes: { to: { kind: 'int', value: 7 } },
          output: { type: 'int64', shape: [2 * total] },
        }),
        g.integers(0),
      ],
      attributes: { exclusive: { kind: 'int', value: 1 } },
      output: { type: 'int64', shape: [2 * total] },
    });
    const rowsAt = where(g, kept, reshape(g, index, [2, total]), g.integers(0));
    const count = reshape(g, reduceSum(g, presence, [1]), [2, 1, 1]);
    return {
      rows,
      layout: { ...layout, rows: `rows_${block}`, packed: { scattered: { places: flat, rowsAt }, mass: reshape(g, presence, [2, 1, total]), count } },
    };
  };
}

describe('lowerings', () => {
  for (const [architecture, checkpoint] of checkpoints) {
    test(`${architecture}: fused answers as canonical, and a batch as its samples`, async () => {
      const feeds = { pixel_values: pixels(3, 16) };
      const reference = await logitsOf(checkpoint, { lowering: 'canonical' }, feeds);
      assertClose(await logitsOf(checkpoint, { lowering: 'fused' }, feeds), reference, 1e-4);
      const one = { type: 'float32', dims: [1, 3, 16, 16], data: (feeds.pixel_values.data as Float32Array).slice(0, 768) } as const;
      assertClose(await logitsOf(checkpoint, { lowering: 'fused' }, { pixel_values: one }), reference.slice(0, 5), 1e-4);
    });
  }

  test('gates of one change nothing; a mask gate near zero hides a token as dropping it does', async () => {
    const checkpoint = checkpoints.get('ViTForImageClassification')!;
    const feeds = { pixel_values: pixels(2, 16) };
    const plain = await logitsOf(checkpoint, { lowering: 'canonical' }, feeds);
    const gates = ['heads', 'tokens', 'masks', 'neurons'] as const;
    const gated = { ...feeds, heads: ones(2, 9), tokens: ones(2, 51), masks: ones(2, 51), neurons: ones(2, 120) };
    assertClose(await logitsOf(checkpoint, { lowering: 'canonical', gates }, gated), plain, 1e-5);

    // Dropped after the attention of block 0 is masked from block 1 on.
    const masks = ones(2, 51);
    for (const token of [4, 9]) for (const sample of [0, 1]) (masks.data as Float32Array)[sample * 51 + 17 + token] = 1e-30;
    const hidden = await logitsOf(checkpoint, { lowering: 'canonical', gates: ['masks'] }, { ...feeds, masks });
    assert.ok(Math.max(...hidden.map((v, i) => Math.abs(v - plain[i]!))) > 1e-3, 'the mask matters');
    for (const lowering of ['canonical', 'fused'] as const) {
      const atSeams = new Map([[0, dropping([4, 9], false)]]);
      assertClose(await logitsOf(checkpoint, { lowering, batch: 2, atSeams }, feeds), hidden, 1e-4);
    }
  });

  test('samples that keep different counts run packed, and answer as alone', async () => {
    const checkpoint = checkpoints.get('DeiTForImageClassificationWithTeacher')!;
    const feeds = { pixel_values: pixels(2, 16) };
    const all = await logitsOf(checkpoint, { lowering: 'fused', batch: 2 }, feeds);
    const both = await logitsOf(checkpoint, { lowering: 'fused', batch: 2, atSeams: new Map([[1, dropping([5, 17], false)]]) }, feeds);
    for (const lowering of ['canonical', 'fused'] as const) {
      const atSeams = new Map([[1, dropping([5, 17], true)]]);
      const mixed = await logitsOf(checkpoint, { lowering, batch: 2, atSeams }, feeds);
      assertClose(mixed.slice(0, 5), both.slice(0, 5), 1e-4);
      assertClose(mixed.slice(5), all.slice(5), 1e-4);
    }
  });

  test('tokens packed and padded again are the same', async () => {
    const checkpoint = checkpoints.get('ViTForImageClassification')!;
    const same: AtSeam = (g, { tokens }) => ({
      ...tokens,
      rows: packTokens(g, tokens.layout, concat(g, [padTokens(g, tokens.layout, tokens.rows)], 1)),
    });
    const feeds = { pixel_values: pixels(2, 16) };
    const plain = await logitsOf(checkpoint, { lowering: 'fused' }, feeds);
    assertClose(await logitsOf(checkpoint, { lowering: 'fused', atSeams: new Map([[2, same]]) }, feeds), plain, 1e-4);
  });
});

describe('golden checkpoints', () => {
  for (const name of ['vit', 'deit-distilled']) {
    const folder = join(process.cwd(), '..', 'shared', 'golden', name);
    const skip = existsSync(folder) ? false : 'no ../shared with golden checkpoints';
    test(`${name}: the logits of PyTorch within 1e-4`, { skip }, async () => {
      const checkpoint = await openCheckpoint(folder);
      const { tensors } = await readSafetensors(join(folder, 'reference.safetensors'));
      const input = tensors.get('pixel_values')!;
      const expected = await readTensor(tensors.get('logits')!);
      const feeds = { pixel_values: { type: 'float32', dims: input.shape, data: await readTensor(input) } as const };
      for (const lowering of Object.keys(lowerings) as (keyof typeof lowerings)[]) {
        assertClose(await logitsOf(checkpoint, { lowering }, feeds), expected, 1e-4);
      }
    });
  }
});

/** A copy of the small ViT without some of its tensors, its config changed. */
async function copyWithout(name: string, dropped: RegExp, change: Record<string, unknown> = {}): Promise<Checkpoint> {
  const source = checkpoints.get('ViTForImageClassification')!;
  const copy = join(root, name);
  await cp(source.directory, copy, { recursive: true });
  const kept = [...source.tensors.values()].filter((tensor) => !dropped.test(tensor.name));
  const tensors = kept.map((tensor) => ({ ...tensor, bytes: () => readTensorBytes(tensor) }));
  await writeSafetensors(join(copy, 'model.safetensors'), tensors);
  await writeFile(join(copy, 'config.json'), JSON.stringify({ ...source.config, ...change }));
  return openCheckpoint(copy);
}

describe('biases', () => {
  for (const part of ['attention.attention.key', 'attention.output.dense', 'intermediate.dense', 'output.dense']) {
    test(`${part} without its bias is refused by name`, async () => {
      const name = `vit.encoder.layer.1.${part}.bias`;
      const checkpoint = await copyWithout(`no-${part}-bias`, new RegExp(`layer\\.1\\.${part}\\.bias`));
      assert.throws(
        () => buildClassifier(checkpoint, { lowering: 'fused' }),
        new RegExp(`tensor ${name} is missing, expected \\[\\d+\\]`),
      );
    });
  }

  test('qkv_bias: false wants none of queries, keys and values, and uses none', async () => {
    const checkpoint = await copyWithout('no-qkv', /\.(query|key|value)\.bias$/, { qkv_bias: false });
    const feeds = { pixel_values: pixels(2, 16) };
    const reference = await logitsOf(checkpoint, { lowering: 'canonical' }, feeds);
    assertClose(await logitsOf(checkpoint, { lowering: 'fused' }, feeds), reference, 1e-4);
    const left = await copyWithout('left-qkv', /^nothing$/, { qkv_bias: false });
    assertClose(await logitsOf(left, { lowering: 'canonical' }, feeds), reference, 1e-6);
  });
});

describe('bad checkpoints', () => {
  const folder = checkpoints.get('ViTForImageClassification')!.directory;
  const cases: [string, (config: Record<string, unknown>) => void, RegExp][] = [
    ['unknown architecture', (c) => (c['architectures'] = ['ResNetForImageClassification']), /config\.json: architectures: "ResNet.* expected one of ViTFor/],
    ['other activation', (c) => (c['hidden_act'] = 'quick_gelu'), /config\.json: hidden_act: quick_gelu, expected gelu/],
    ['patch that does not fit', (c) => (c['patch_size'] = 5), /patch_size: 5×5 does not divide the image of 16×16/],
    ['a layer too many', (c) => (c['num_hidden_layers'] = 4), /tensor vit\.encoder\.layer\.3\.\S+ is missing, expected \[\d+/],
    ['very many layers', (c) => (c['num_hidden_layers'] = 1e6), /num_hidden_layers: 1000000, but the weights have 3 layers: tensor vit\.encoder\.layer\.3\.layernorm_before\.weight is missing, expected \[24\]/],
    ['a billion layers', (c) => (c['num_hidden_layers'] = 1e9), /config\.json: num_hidden_layers: .*<=1048576/],
    ['a layer too few', (c) => (c['num_hidden_layers'] = 2), /num_hidden_layers: 2, but the weights have 3 layers, expected all/],
    ['an image without end', (c) => (c['image_size'] = 1e9), /config\.json: image_size: .*<=16384/],
    ['another width', (c) => (c['hidden_size'] = 12), /model\.safetensors: tensor \S+ has the shape \[.*\], expected \[/],
    ['no number', (c) => (c['num_attention_heads'] = 'many'), /config\.json: num_attention_heads: .*expected number/],
  ];
  for (const [what, change, expected] of cases) {
    test(what, async () => {
      const copy = join(root, `bad-${what.replaceAll(' ', '-')}`);
      await cp(folder, copy, { recursive: true });
      const config = JSON.parse(await readFile(join(folder, 'config.json'), 'utf8')) as Record<string, unknown>;
      change(config);
      await writeFile(join(copy, 'config.json'), JSON.stringify(config));
      const checkpoint = await openCheckpoint(copy);
      assert.throws(() => buildClassifier(checkpoint, { lowering: 'fused' }), expected);
    });
  }
});

