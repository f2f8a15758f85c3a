/** The runtime's products against a reference in plain numbers, and against themselves in batches of other sizes. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { GraphBuilder } from '../../onnx/builder.js';
import { blockedProducts, hasBlockedConvolutions } from '../../onnx/blocked-products.js';
import { floatTensor } from '../../onnx/tensor.js';
import { loadGraph } from '../../runtime/load-graph.js';
import { createRuntime, type Session } from '../../runtime/runtime.js';
import { fused } from '../layers/fused.js';
import { bitWidths, blockSize, type Bits } from './blocks.js';
import { readQuantised, writeQuantised } from './file.js';
import { bindQuantised, tensorsOf, type QuantisedTensors } from './matrix.js';
import { dequantise, quantise } from './quantise.js';
import { normalNumbers } from './testing/numbers.js';

const root = await mkdtemp(join(tmpdir(), 'heartwood-quantisation-'));
// Two threads, so that work is split as in serving.
const runtime = createRuntime({ workers: 1, threads: 2 });
after(async () => {
  await runtime.close();
  await rm(root, { recursive: true, force: true });
});

/** [inputs, outputs]: whole blocks, and sizes as pruning leaves them. */
const sizes = [
  [64, 48],
  [83, 33],
  [320, 129],
  [31, 7],
] as const;

/** x [M, in] → y [M, out] by the layer of the fused lowering. @param blocked by a convolution in the place of the product */
async function layer(
  weight: Float32Array | QuantisedTensors,
  bias: Float32Array,
  inputs: number,
  blocked = false,
): Promise<Session> {
  const outputs = bias.length;
  const g = new GraphBuilder('product');
  const x = g.input('x', 'float32', ['M', inputs]);
  const y = fused.linear(g, x, {
    weight:
      weight instanceof Float32Array
        ? g.initializer('w', floatTensor('float32', [outputs, inputs], weight))
        : bindQuantised(g, 'w', weight),
    bias: g.initializer('b', floatTensor('float32', [outputs], bias)),
  });
  const graph = g.build([g.named('y', y)]);
  const replaced = blocked ? blockedProducts(graph) : graph;
  assert.ok(replaced, 'there is a product to replace');
  return loadGraph(runtime, replaced, root);
}

async function product(session: Session, x: Float32Array, rows: number): Promise<Float32Array> {
  const { y } = await session.run({ x: { type: 'float32', dims: [rows, x.length / rows], data: x } });
  return y!.data as Float32Array;
}

describe('products with quantised weights', () => {
  for (const bits of bitWidths) {
    for (const [inputs, outputs] of sizes) {
      test(`${bits} bits, ${inputs} → ${outputs}: what the dequantised weights give on rows rounded to 8 bits`, async () => {
        const arrays = quantise(normalNumbers(inputs * outputs, 1), outputs, inputs, bits);
        const bias = normalNumbers(outputs, 2);
        const x = normalNumbers(3 * inputs, 3);
        const session = await layer(tensorsOf(arrays), bias, inputs);
        const y = await product(session, x, 3);
        await session.dispose();
        const expected = reference(roundedRows(x, inputs), dequantise(arrays), bias, inputs);
        y.forEach((value, i) => assert.ok(Math.abs(value - expected[i]!) < 1e-4 * Math.sqrt(inputs), `${value}, ${expected[i]}`));
      });
    }
  }

  test('read from a file are those from memory', async () => {
    const values = normalNumbers(40 * 24, 4);
    const arrays = quantise(values, 24, 40, 4);
    const matrix = { name: 'w', bits: 4 as Bits, rows: 24, columns: 40, values: () => Promise.resolve(values) };
    const matrices = [matrix, { ...matrix, name: 'v', bits: 8 as Bits }];
    const file = join(root, 'quantised.safetensors');
    await writeQuantised(file, matrices);
    const written = await readQuantised(file, matrices);
    const x = normalNumbers(40, 5);
    const bias = new Float32Array(24);
    const outputs = [];
    for (const tensors of [tensorsOf(arrays), written.get('w')!]) {
      const session = await layer(tensors, bias, 40);
      outputs.push(await product(session, x, 1));
      await session.dispose();
    }
    assert.deepEqual(outputs[1], outputs[0]);
    assert.equal(written.get('v')!.bits, 8);
  });
});

/**
 * What makes a stream's text independent of the streams beside it: the kernels sum a row in the same order however many rows there are. It holds
 * for products with packed weights (the runtime's default; without packing a single row goes another way) and for quantised ones at accuracy
 * level 4 (at others it does not); and for the convolutions that stand in for products, where the inputs fill whole blocks of channels.
 */
describe('a row has the same bits in every batch', () => {
  for (const kind of ['float32', 'float32 in blocks', ...bitWidths] as const) {
    for (const [inputs, outputs] of [...sizes, [768, 96]] as const) {
      const blocked = kind === 'float32 in blocks';
      if (blocked && inputs % 16 !== 0) continue;
      const skip = blocked && !hasBlockedConvolutions() && `no such convolutions on ${process.arch}`;
      test(`${typeof kind === 'string' ? kind : `${kind} bits`}, ${inputs} → ${outputs}`, { skip }, async () => {
        const values = normalNumbers(inputs * outputs, 1);
        const weight = typeof kind === 'string' ? values : tensorsOf(quantise(values, outputs, inputs, kind));
        const session = await layer(weight, normalNumbers(outputs, 2), inputs, blocked);
        const x = normalNumbers(64 * inputs, 3);
        const alone = [];
        for (let row = 0; row < 8; row++) {
          alone.push(await product(session, x.slice(row * inputs, (row + 1) * inputs), 1));
        }
        for (const rows of [2, 3, 4, 5, 6, 7, 8, 17, 64]) {
          const y = await product(session, x.slice(0, rows * inputs), rows);
          for (let row = 0; row < Math.min(rows, 8); row++) {
            assert.deepEqual(y.slice(row * outputs, (row + 1) * outputs), alone[row], `row ${row} of ${rows}`);
          }
        }
        await session.dispose();
      });
    }
  }
});

/** Each block of 32 of a row rounded to multiples of its largest magnitude over 127, as the kernels do. */
function roundedRows(x: Float32Array, width: number): Float32Array {
  const rounded = x.slice();
  for (let row = 0; row < x.length; row += width) {
    for (let from = 0; from < width; from += blockSize) {
      const block = rounded.subarray(row + from, row + Math.min(from + blockSize, width));
      const scale = block.reduce((most, value) => Math.max(most, Math.abs(value)), 0) / 127;
      block.forEach((value, i) => (block[i] = scale * Math.round(value / scale)));
    }
  }
  return rounded;
}

function reference(x: Float32Array, w: Float32Array, bias: Float32Array, inputs: number): number[] {
  const outputs = bias.length;
  return Array.from({ length: (x.length / inputs) * outputs }, (_, at) => {
    const [row, output] = [Math.floor(at / outputs), at % outputs];
    let sum = bias[output]!;
    for (let i = 0; i < inputs; i++) sum += x[row * inputs + i]! * w[output * inputs + i]!;
    return sum;
  });
}
