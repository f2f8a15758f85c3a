import { createHash } from 'node:crypto';
import { internal } from '../errors/error.js';
import { GraphBuilder } from '../onnx/builder.js';
import { encodeModel } from '../onnx/encode.js';
import type { Graph } from '../onnx/ir.js';
import { add, erf, exp, gemm, layerNormalization, log, reduceSum, softmax } from '../onnx/ops/index.js';
import type { Runtime } from '../runtime/runtime.js';
import { probeSession } from './probe-graph.js';

/** Odd sizes, so that the ends of vectorised loops have a part in it. */
const [rows, inner, columns] = [61, 197, 83];
const known = new WeakMap<Runtime, Promise<string>>();

/**
 * A digest of what products, sums and the usual functions of fixed numbers come to on a runtime, to the bit. Where it differs (another kind of
 * processor, another provider or release, another number of threads, by which products are divided), so would the last bits of whatever is measured.
 */
export function arithmeticOf(runtime: Runtime): Promise<string> {
  const found = known.get(runtime) ?? digestOf(runtime);
  known.set(runtime, found);
  return found;
}

async function digestOf(runtime: Runtime): Promise<string> {
  const session = await runtime.load(encodeModel(sampleGraph()), probeSession);
  try {
    const outputs = await session.run({
      x: { type: 'float32', dims: [rows, inner], data: numbers(rows * inner, 7919) },
      w: { type: 'float32', dims: [inner, columns], data: numbers(inner * columns, 104_729) },
    });
    const hash = createHash('sha256');
    for (const name of Object.keys(outputs).sort()) {
      const { data } = outputs[name]!;
      if (!(data instanceof Float32Array)) throw internal('the sample of arithmetic is in float32');
      hash.update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    }
    return hash.digest('hex');
  } finally {
    await session.dispose();
  }
}

function sampleGraph(): Graph {
  const g = new GraphBuilder('arithmetic');
  const product = gemm(g, g.input('x', g.float, [rows, inner]), g.input('w', g.float, [inner, columns]), undefined);
  const one = g.constant(new Array<number>(columns).fill(1), [columns]);
  const zero = g.constant(new Array<number>(columns).fill(0), [columns]);
  const normed = layerNormalization(g, add(g, product, erf(g, product)), one, zero, 1e-6).y;
  const shares = softmax(g, normed);
  return g.build([
    g.named('product', product),
    g.named('normed', normed),
    g.named('entropy', reduceSum(g, add(g, log(g, shares), exp(g, normed)), [0])),
  ]);
}

/** Fixed numbers between −1 and 1. */
function numbers(count: number, step: number): Float32Array {
  return Float32Array.from({ length: count }, (_, at) => ((at * step) % 2003) / 1001 - 1);
}
