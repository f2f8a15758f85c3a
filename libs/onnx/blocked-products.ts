import type { Graph, Initializer, Node, Shape, Tensor, Value } from './ir.js';
import { floatTensor, integerTensor } from './tensor.js';

/**
 * Inputs of a product that come in whole blocks of channels: 16 with AVX-512, 8 without. One row alone and rows in a batch then take the same
 * kernel, and a row has the same bits in every batch; where they do not the runtime has another kernel, slower than its matrix product.
 */
const block = 16;

/** Whether the runtime has such convolutions for a processor: its builds for arm64 leave them out unless told otherwise (`onnxruntime_USE_ARM_NEON_NCHWC`). */
export function hasBlockedConvolutions(processor: string = process.arch): boolean {
  return processor === 'x64';
}

/**
 * A graph whose products x wᵀ + b with weights [N, K] are 1 × 1 convolutions: the row x [R, K] is an image of R pixels with K channels. On processors
 * for which the runtime has convolutions over blocks of channels (NCHWc: every x64) it lays the weights out so that they are read in the order in
 * which they lie, while its matrix product jumps between panels: a row alone, which is bound by that reading, takes less time, a few rows as well,
 * many as long (docs/language-models.md). Elsewhere such a convolution is the slower one, so this is for a file beside the plain one.
 *
 * There must be rows: an image without pixels is refused. The transpositions around the convolution become those of the runtime's own layout.
 * Weights are the same bytes under another shape. undefined where there is no such product.
 */
export function blockedProducts(graph: Graph): Graph | undefined {
  const known = new Map(graph.initializers.map((each) => [each.value, each]));
  const added = new Map<string, Initializer>();
  const initializer = (name: string, tensor: Tensor): Value => {
    const made = added.get(name) ?? { value: { name, type: tensor.type, shape: tensor.dims }, tensor };
    added.set(name, made);
    return made.value;
  };
  const nodes = graph.nodes.flatMap((node) => {
    const weight = weightOf(node, known);
    return weight ? convolution(node, weight, initializer) : [node];
  });
  if (added.size === 0) return undefined;
  const read = new Set(nodes.flatMap(({ inputs }) => inputs));
  const kept = graph.initializers.filter(({ value }) => read.has(value));
  return { ...graph, nodes, initializers: [...kept, ...added.values()] };
}

/** The weight [N, K] of a product that can be a convolution. */
function weightOf(node: Node, known: ReadonlyMap<Value, Initializer>): Initializer | undefined {
  const { op, attributes, inputs } = node;
  const flag = (name: string) => (attributes[name]?.kind === 'int' ? attributes[name].value : 0);
  if (op !== 'Gemm' || flag('transA') !== 0 || flag('transB') !== 1) return undefined;
  if ('alpha' in attributes || 'beta' in attributes) return undefined;
  const weight = inputs[1] && known.get(inputs[1]);
  const bias = inputs[2];
  if (weight === undefined || (bias && (bias.shape.length !== 1 || !known.has(bias)))) return undefined;
  return weight.tensor.type === 'float32' && weight.tensor.dims[1]! % block === 0 ? weight : undefined;
}

function convolution(
  { name, inputs: [x, , bias], outputs: [y] }: Node,
  { value: { name: weightName }, tensor }: Initializer,
  initializer: (name: string, tensor: Tensor) => Value,
): Node[] {
  const [N = 0, K = 0] = tensor.dims;
  const R = x!.shape[0]!;
  const shapeOf = (dims: readonly number[]) =>
    initializer(`shape.${dims.join('x')}`, integerTensor([dims.length], dims));
  const weight = initializer(`${weightName}.1x1`, { ...tensor, dims: [N, K, 1, 1] });
  // The runtime leaves a convolution without a bias as it is.
  const added = bias ?? initializer(`zeros.${N}`, floatTensor('float32', [N], new Float32Array(N)));
  const value = (part: string, shape: Shape): Value => ({ name: `${name}.${part}`, type: 'float32', shape });
  const node = (op: string, ins: Node['inputs'], out: Value, attributes: Node['attributes'] = {}): Node => ({
    ...{ op, domain: '', name: `${out.name}.${op}`, inputs: ins, outputs: [out], attributes },
  });
  const perm = (...axes: number[]) => ({ perm: { kind: 'ints', value: axes } }) as const;
  const pixels = value('pixels', [1, 1, R, K]);
  const channels = value('channels', [1, K, 1, R]);
  const convolved = value('convolved', [1, N, 1, R]);
  const rows = value('rows', [1, 1, R, N]);
  return [
    node('Reshape', [x, shapeOf([1, 1, -1, K])], pixels),
    node('Transpose', [pixels], channels, perm(0, 3, 1, 2)),
    node('Conv', [channels, weight, added], convolved),
    node('Transpose', [convolved], rows, perm(0, 2, 3, 1)),
    node('Reshape', [rows, shapeOf([-1, N])], y!),
  ];
}
