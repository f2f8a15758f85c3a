/** Products of one row, one after the other, as a graph: of float32 weights or of blocks of fewer bits. */
import { blockedProducts } from '../../../libs/onnx/blocked-products.js';
import { GraphBuilder } from '../../../libs/onnx/builder.js';
import type { Graph, Tensor, Value } from '../../../libs/onnx/ir.js';
import { gemm, matMulNBits } from '../../../libs/onnx/ops/index.js';
import { floatTensor, inlineTensor } from '../../../libs/onnx/tensor.js';

export type ProductKind =
  | { readonly name: string; readonly bits: 32; readonly blocked: boolean }
  | { readonly name: string; readonly bits: 8 | 4; readonly blockSize: number };

/** A weight [outputs, inputs]. */
export interface MatrixShape {
  readonly inputs: number;
  readonly outputs: number;
}

/**
 * x [1, inputs of the first] → y [1, outputs of the last]: every product takes the last result that fits it.
 * @param weights of each product its own, or the same for all of a shape. Equal weights would be kept once by the runtime, so those of `each` differ
 * @returns the graph, and the bytes that its products read
 */
export function productsGraph(
  kind: ProductKind,
  shapes: readonly MatrixShape[],
  weights: 'each' | 'shared',
): { readonly graph: Graph; readonly bytes: number } {
  const g = new GraphBuilder('products');
  const fitting = new Map<number, Value>();
  fitting.set(shapes[0]!.inputs, g.input('x', 'float32', [1, shapes[0]!.inputs]));
  let bytes = 0;
  let last: Value | undefined;
  const taken = new Map<string, Product>();
  for (const [index, shape] of shapes.entries()) {
    const name = weights === 'each' ? `w${index}` : `w${shape.inputs}x${shape.outputs}`;
    const product = taken.get(name) ?? productOf(g, kind, shape, name, index);
    taken.set(name, product);
    bytes += product.bytes;
    last = product.apply(fitting.get(shape.inputs)!);
    fitting.set(shape.outputs, last);
  }
  const graph = g.build([g.named('y', last!)]);
  return { graph: kind.bits === 32 && kind.blocked ? blockedProducts(graph)! : graph, bytes };
}

interface Product {
  readonly bytes: number;
  apply(x: Value): Value;
}

function productOf(
  g: GraphBuilder,
  kind: ProductKind,
  { inputs, outputs }: MatrixShape,
  name: string,
  seed: number,
): Product {
  const bound = (part: string, tensor: Tensor): Value => g.initializer(`${name}.${part}`, tensor);
  if (kind.bits === 32) {
    const values = new Float32Array(outputs * inputs);
    for (let i = 0; i < values.length; i++) values[i] = (hash(i, seed) - 128) / 2 ** 12;
    const weight = bound('weight', floatTensor('float32', [outputs, inputs], values));
    const bias = bound('bias', floatTensor('float32', [outputs], new Float32Array(outputs)));
    return { bytes: values.byteLength, apply: (x) => gemm(g, x, weight, bias, { transB: true }) };
  }
  const { bits, blockSize } = kind;
  const blocks = Math.ceil(inputs / blockSize);
  const bytesOf = (count: number, dims: readonly number[]) => {
    const values = new Uint8Array(count);
    for (let i = 0; i < count; i++) values[i] = hash(i, seed);
    return inlineTensor('uint8', dims, values);
  };
  const [blockBytes, zeroBytes] = [(blockSize * bits) / 8, Math.ceil((blocks * bits) / 8)];
  const scales = Float32Array.from({ length: outputs * blocks }, (_, i) => (1 + (hash(i, seed) % 7)) / 2 ** (bits + 9));
  const matrix = {
    ...{ bits, blockSize, rows: outputs, columns: inputs },
    packed: bound('packed', bytesOf(outputs * blocks * blockBytes, [outputs, blocks, blockBytes])),
    scales: bound('scales', inlineTensor('float32', [outputs, blocks], scales)),
    zeros: bound('zeros', bytesOf(outputs * zeroBytes, [outputs, zeroBytes])),
  };
  return { bytes: outputs * (blocks * (blockBytes + 4) + zeroBytes), apply: (x) => matMulNBits(g, x, matrix) };
}

/** A byte that looks like chance. */
function hash(index: number, seed: number): number {
  return (Math.imul(index + 7919 * seed, 2_654_435_761) >>> 13) & 255;
}
