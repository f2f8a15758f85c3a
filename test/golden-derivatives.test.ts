import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { exactSketch, klCurvatureVector } from '../libs/autodiff/hvp.js';
import { losses } from '../libs/curvature/losses.js';
import { targetsInput, type NetworkGraph, type SampleBatch } from '../libs/curvature/network.js';
import { networkOf } from '../libs/curvature/networks.js';
import { goldenNames, openGolden, skipGolden } from '../libs/curvature/testing/golden.js';
import { GATE_KINDS, type GateKind } from '../libs/models/gates.js';
import { readTensor } from '../libs/models/safetensors.js';
import { checkpointWeights, type Weights } from '../libs/models/weights.js';
import type { GraphBuilder } from '../libs/onnx/builder.js';
import type { Value } from '../libs/onnx/ir.js';
import { loadGraph } from '../libs/runtime/load-graph.js';
import { createRuntime } from '../libs/runtime/runtime.js';
import type { TensorValue } from '../libs/runtime/tensor.js';

/**
 * Derivatives of whole models against PyTorch's in float64 (golden.py of the shared folder says what each tensor is). Gates are per
 * sample, and samples do not interact: one direction for all samples gives a column of every sample's Hessian.
 */
const tolerance = 1e-3;

const work = mkdtempSync(join(tmpdir(), 'heartwood-golden-'));
const runtime = createRuntime({ workers: 1, threads: 1 });
after(async () => {
  await runtime.close();
  rmSync(work, { recursive: true, force: true });
});

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

/** Hessians by sample, each [units, units], column by column. */
type Hessians = readonly Float32Array[];

/** Runs a graph of K products, by outputs name:k, until every unit was the direction of one. */
async function columns(
  g: GraphBuilder,
  outputs: Readonly<Record<string, readonly Value[]>>,
  feeds: Readonly<Record<string, TensorValue>>,
  [batch, units]: readonly [number, number],
  probes: number,
): Promise<Record<string, Hessians>> {
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

/** The loss of the true labels, as derivatives. */
const crossEntropy = losses['cross-entropy'];

for (const name of goldenNames) {
  describe(`golden derivatives of ${name}`, { skip: skipGolden }, () => {
    const probes = 6;

    /** The network with the labels as an input, and all samples of the reference in one batch. */
    async function opened(gates: readonly GateKind[], weights?: (g: GraphBuilder) => Weights) {
      const reference = await openGolden(name);
      const network = networkOf(reference.checkpoint, reference.dataset);
      const batch = reference.indices.length;
      const model = network.build({ batch, gates, name: 'golden', ...(weights ? { weights } : {}) });
      const part = await network.batches(reference.indices, { batch, labels: true }).next();
      const { feeds } = part.value as SampleBatch;
      return { reference, batch, model, feeds };
    }

    const answerOf = ({ g, logits }: NetworkGraph) => ({
      logits,
      targets: g.input(targetsInput, 'int64', logits.shape.slice(0, -1)),
    });

    async function gated(kind: GateKind) {
      const { reference, batch, model, feeds } = await opened([kind]);
      const gate = model.gates.get(kind)!.value;
      const units = Number(gate.shape[1]);
      const ones = tensor([batch, units], new Float32Array(batch * units).fill(1));
      const bySample = reference.shape(`${kind}.gradient`).length > 1;
      return { reference, model, gate, feeds: { ...feeds, [kind]: ones }, size: [batch, units] as const, bySample };
    }

    for (const kind of GATE_KINDS) {
      it(`${kind}: gradient, Hessian and its diagonal, under cross-entropy and KL`, async () => {
        const { reference, model, gate, feeds, size, bySample } = await gated(kind);
        const { g, logits } = model;
        const answer = answerOf(model);
        const directions = Array.from({ length: probes }, (_, k) => [g.input(`direction:${k}`, 'float32', gate.shape)]);
        const gradients = crossEntropy.gradient(g, answer, [gate])!;
        const products = crossEntropy.products(g, answer, [gate], directions);
        const curved = klCurvatureVector(g, logits, [gate], directions);
        const first = (values: readonly (readonly Value[])[]) => values.map(([value]) => value!);
        // the gradient is the same for every direction; it stands where a column would, and is read from the first
        const found = await columns(
          g,
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

    // Its columns are those of one row of logits: of several the mixed terms, which are no part of H, would come with them.
    if (name !== 'gpt-neox')
      it('heads: the exact sketch is a factor of the KL Hessian', async () => {
        const { reference, model, gate, feeds, size } = await gated('heads');
        const { g, logits } = model;
        const sketch = exactSketch(g, logits, [gate]).map(([value], c) => g.named(`column:${c}`, value!));
        const session = await loadGraph(runtime, g.build(sketch), work);
        const { [targetsInput]: _, ...inputs } = feeds as Record<string, TensorValue>;
        const results = await session.run(inputs);
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
      const { checkpoint, metadata } = await openGolden(name);
      const weight = metadata['weight'] ?? assert.fail('the reference does not name its weight');
      const dims = checkpoint.tensors.get(weight)!.shape;
      let moving: Value | undefined;
      const weights = (): Weights => {
        const stored = checkpointWeights(checkpoint);
        return {
          ...stored,
          matrix: (g, tensorName, ...rest) =>
            tensorName === weight
              ? (moving ??= g.input(weight, 'float32', dims))
              : stored.matrix(g, tensorName, ...rest),
        };
      };
      const { reference, model, feeds } = await opened([], weights);
      const { g } = model;
      const input = g.input('direction', 'float32', dims);
      const products = crossEntropy.products(g, answerOf(model), [moving!], [[input]]);
      const session = await loadGraph(runtime, g.build([g.named('product', products[0]![0]!)]), work);
      const { product } = await session.run({
        ...feeds,
        [weight]: tensor(dims, await readTensor(checkpoint.tensors.get(weight)!)),
        direction: tensor(dims, await reference.numbers('hvp.v')),
      });
      await session.dispose();
      assertClose(product!.data as Float32Array, await reference.numbers('hvp.Hv'), 'H v');
    });
  });
}
