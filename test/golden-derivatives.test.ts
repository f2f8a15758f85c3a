import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { exactSketch, hessianVector, klCurvatureVector } from '../libs/autodiff/hvp.js';
import { openCheckpoint } from '../libs/models/checkpoint.js';
import { buildClassifier, type Classifier } from '../libs/models/classifier.js';
import { GATE_KINDS, type GateKind } from '../libs/models/gates.js';
import { readSafetensors, readTensor } from '../libs/models/safetensors.js';
import { checkpointWeights, type Weights } from '../libs/models/weights.js';
import type { GraphBuilder } from '../libs/onnx/builder.js';
import type { Value } from '../libs/onnx/ir.js';
import { logSoftmax, mul, neg, reduceSum } from '../libs/onnx/ops/index.js';
import { loadGraph } from '../libs/runtime/load-graph.js';
import { createRuntime } from '../libs/runtime/runtime.js';
import type { TensorValue } from '../libs/runtime/tensor.js';

/**
 * Derivatives of whole models against PyTorch's in float64 (golden.py of the shared folder says what each tensor is). Gates are per
 * sample, and samples do not interact: one direction for all samples gives a column of every sample's Hessian.
 */
const golden = fileURLToPath(new URL('../../../shared/golden', import.meta.url));
const skip = existsSync(golden) ? false : 'there are no golden files at ../shared/golden';
const tolerance = 1e-3;

const work = mkdtempSync(join(tmpdir(), 'heartwood-golden-'));
const runtime = createRuntime({ workers: 1, threads: 1 });
after(async () => {
  await runtime.close();
  rmSync(work, { recursive: true, force: true });
});

interface Reference {
  readonly numbers: (name: string) => Promise<Float32Array>;
  readonly shape: (name: string) => readonly number[];
  readonly metadata: Readonly<Record<string, string>>;
}

async function referenceOf(folder: string): Promise<Reference> {
  const { tensors, metadata } = await readSafetensors(join(folder, 'reference.safetensors'));
  const located = (name: string) => tensors.get(name) ?? assert.fail(`the reference has no ${name}`);
  return { numbers: (name) => readTensor(located(name)), shape: (name) => located(name).shape, metadata };
}

function assertClose(actual: ArrayLike<number>, expected: ArrayLike<number>, what: string): void {
  assert.equal(actual.length, expected.length, what);
  let [gap, size] = [0, 0];
  for (let i = 0; i < expected.length; i++) {
    gap += (actual[i]! - expected[i]!) ** 2;
    size += expected[i]! ** 2;
  }
  const off = Math.sqrt(gap / size);
  assert.ok(off <= tolerance, `${what} is off by ${off}`);
}

const tensor = (dims: readonly number[], data: Float32Array): TensorValue => ({ type: 'float32', dims, data });

/** −log p of the label, by sample. */
function crossEntropy(g: GraphBuilder, logits: Value, labels: readonly number[]): Value {
  const classes = Number(logits.shape[1]);
  const oneHot = labels.flatMap((label) => Array.from({ length: classes }, (_, c) => (c === label ? 1 : 0)));
  return neg(g, reduceSum(g, mul(g, logSoftmax(g, logits), g.constant(oneHot, [labels.length, classes])), [-1]));
}

/** Hessians by sample, each [units, units], column by column. */
type Hessians = readonly Float32Array[];

/** Runs a graph of K products, by outputs name:k, until every unit was the direction of one. */
async function columns(
  model: Classifier,
  outputs: Readonly<Record<string, readonly Value[]>>,
  feeds: Readonly<Record<string, TensorValue>>,
  [batch, units]: readonly [number, number],
  probes: number,
): Promise<Record<string, Hessians>> {
  const { g } = model;
  const named = Object.entries(outputs).flatMap(([name, values]) => values.map((v, k) => g.named(`${name}:${k}`, v)));
  const session = await loadGraph(runtime, g.build(named), work);
  const hessians = Object.fromEntries(
    Object.keys(outputs).map((name) => [name, Array.from({ length: batch }, () => new Float32Array(units * units))]),
  );
  for (let start = 0; start < units; start += probes) {
    const directions = Object.fromEntries(
      Array.from({ length: probes }, (_, k) => {
        const data = new Float32Array(batch * units);
        for (let b = 0; b < batch && start + k < units; b++) data[b * units + start + k] = 1;
        return [`direction:${k}`, tensor([batch, units], data)];
      }),
    );
    const results = await session.run({ ...feeds, ...directions });
    for (const [name, byUnit] of Object.entries(hessians)) {
      for (let k = 0; k < probes && start + k < units; k++) {
        const column = results[`${name}:${k}`]!.data as Float32Array;
        byUnit.forEach((h, b) => h.set(column.subarray(b * units, (b + 1) * units), (start + k) * units));
      }
    }
  }
  await session.dispose();
  return hessians;
}

/** By sample as the reference has it, or summed over the samples where its tensors have no batch. */
function arranged(parts: readonly Float32Array[], bySample: boolean): Float32Array {
  if (bySample) return Float32Array.from(parts.flatMap((part) => Array.from(part)));
  return parts[0]!.map((_, i) => parts.reduce((sum, part) => sum + part[i]!, 0));
}

function diagonals(hessians: Float32Array, units: number): Float32Array {
  return hessians.filter((_, i) => Math.floor((i % (units * units)) / units) === i % units);
}

for (const name of ['vit', 'deit-distilled']) {
  describe(`golden derivatives of ${name}`, { skip }, () => {
    const folder = join(golden, name);
    const probes = 6;

    async function gated(kind: GateKind) {
      const reference = await referenceOf(folder);
      const { labels } = JSON.parse(readFileSync(join(golden, 'labels.json'), 'utf8')) as { labels: number[] };
      const model = buildClassifier(await openCheckpoint(folder), {
        lowering: 'canonical',
        batch: labels.length,
        gates: [kind],
      });
      const gate = model.gates.get(kind)!.value;
      const units = Number(gate.shape[1]);
      const feeds = {
        pixel_values: tensor(reference.shape('pixel_values'), await reference.numbers('pixel_values')),
        [kind]: tensor([labels.length, units], new Float32Array(labels.length * units).fill(1)),
      };
      const size = [labels.length, units] as const;
      return { reference, labels, model, gate, feeds, size, bySample: reference.shape(`${kind}.gradient`).length > 1 };
    }

    for (const kind of GATE_KINDS) {
      it(`${kind}: gradient, Hessian and its diagonal, under cross-entropy and KL`, async () => {
        const { reference, labels, model, gate, feeds, size, bySample } = await gated(kind);
        const { g, logits } = model;
        const directions = Array.from({ length: probes }, (_, k) => [g.input(`direction:${k}`, 'float32', gate.shape)]);
        const { gradients, products } = hessianVector(g, crossEntropy(g, logits, labels), [gate], directions);
        const curved = klCurvatureVector(g, logits, [gate], directions);
        const first = (values: readonly (readonly Value[])[]) => values.map(([value]) => value!);
        // the gradient is the same for every direction; it stands where a column would, and is read from the first
        const found = await columns(
          model,
          { hessian: first(products), kl: first(curved), gradient: directions.map(() => gradients[0]!) },
          feeds,
          size,
          probes,
        );
        const units = size[1];
        const gradient = found['gradient']!.map((part) => part.slice(0, units));
        assertClose(arranged(gradient, bySample), await reference.numbers(`${kind}.gradient`), 'the gradient');
        for (const [ours, theirs] of [
          ['hessian', 'hessian'],
          ['kl', 'kl_hessian'],
        ] as const) {
          const hessian = arranged(found[ours]!, bySample);
          const expected = await reference.numbers(`${kind}.${theirs}`);
          assertClose(hessian, expected, `${kind}.${theirs}`);
          assertClose(diagonals(hessian, units), diagonals(expected, units), `the diagonal of ${kind}.${theirs}`);
        }
      });
    }

    it('heads: the exact sketch is a factor of the KL Hessian', async () => {
      const { reference, model, gate, feeds, size } = await gated('heads');
      const { g, logits } = model;
      const sketch = exactSketch(g, logits, [gate]).map(([value], c) => g.named(`column:${c}`, value!));
      const session = await loadGraph(runtime, g.build(sketch), work);
      const results = await session.run(feeds);
      await session.dispose();
      const [batch, units] = size;
      const hessian = new Float32Array(units * units);
      for (const { name: column } of sketch) {
        const u = results[column]!.data as Float32Array;
        for (let b = 0; b < batch; b++) {
          for (let i = 0; i < units; i++) {
            for (let j = 0; j < units; j++) hessian[i * units + j]! += u[b * units + i]! * u[b * units + j]!;
          }
        }
      }
      assertClose(hessian, await reference.numbers('heads.kl_hessian'), 'Σ u uᵀ');
    });

    it('H v over the weights of the first MLP', async () => {
      const { reference, labels, feeds } = await gated('heads');
      const weight = reference.metadata['weight'] ?? assert.fail('the reference does not name its weight');
      const checkpoint = await openCheckpoint(folder);
      const dims = checkpoint.tensors.get(weight)!.shape;
      const weights = (_: GraphBuilder): Weights => {
        const stored = checkpointWeights(checkpoint);
        return {
          ...stored,
          bind: (g, tensorName, ...rest) =>
            tensorName === weight ? g.input(weight, 'float32', dims) : stored.bind(g, tensorName, ...rest),
        };
      };
      const { g, logits } = buildClassifier(checkpoint, { lowering: 'canonical', batch: labels.length, weights });
      const input = g.input('direction', 'float32', dims);
      const moving = g.allNodes.flatMap(({ inputs }) => inputs).find((v) => v?.name === weight)!;
      const { products } = hessianVector(g, crossEntropy(g, logits, labels), [moving], [[input]]);
      const session = await loadGraph(runtime, g.build([g.named('product', products[0]![0]!)]), work);
      const { product } = await session.run({
        pixel_values: feeds['pixel_values'],
        [weight]: tensor(dims, await readTensor(checkpoint.tensors.get(weight)!)),
        direction: tensor(dims, await reference.numbers('hvp.v')),
      });
      await session.dispose();
      assertClose(product!.data as Float32Array, await reference.numbers('hvp.Hv'), 'H v');
    });
  });
}
