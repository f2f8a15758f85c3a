import type { CausalSpec } from '../../models/architectures/gpt-neox.js';
import { quantisedBytes } from '../../models/quantisation/blocks.js';
import { quantisableMatrices } from '../../models/quantisation/network.js';
import type { BitsChoice, FixedChoice } from '../plan.js';
import type { FixedKind } from '../tasks/task.js';

/** Of an activation, as libs/onnx/flops.ts counts it. */
const activationFlops = 8;
/** Of a softmax, by element. */
const softmaxFlops = 5;

/** Tokens of the window that costs are told for, whatever the text was cut into: what attention costs depends on it. */
export function costWindow({ context }: Pick<CausalSpec, 'context'>): number {
  return Math.min(context, 256);
}

/** What a language model costs. */
export interface TextCost {
  /** FLOPs of a token: the mean over a window's positions, each of which sees those up to itself. */
  readonly flops: number;
  /** Parameters of the linear layers in the blocks, biases included. */
  readonly blockParameters: number;
  /** All parameters. */
  readonly parameters: number;
  /** That a decoded token reads: every weight once but for the embeddings', of which it reads a row. Without the cache. */
  readonly bytes: number;
  /** Mean bits of a weight of the matrices that may be quantised. */
  readonly bits: number;
}

/** FLOPs of a token that go with one unit, in a window of so many positions. */
export function unitFlops({ hidden, headWidth }: CausalSpec, kind: FixedKind, positions: number): number {
  if (kind === 'neurons') return 4 * hidden + activationFlops;
  // Four products of hidden × width; of each key that is seen, on average half of the window, two of width and a softmax.
  return 8 * hidden * headWidth + (4 * headWidth + softmaxFlops) * ((positions + 1) / 2);
}

/** Parameters that go with one unit. */
export function unitParameters({ hidden, headWidth, attentionBias }: CausalSpec, kind: FixedKind): number {
  if (kind === 'neurons') return 2 * hidden + 1;
  return 4 * headWidth * hidden + (attentionBias ? 3 * headWidth : 0);
}

/** The cost of what a choice leaves of a network; of all of it for null. */
export function choiceCost(spec: CausalSpec, choice: FixedChoice | null): TextCost {
  const blocks = spec.blocks.map(({ heads, neurons }, block) => ({
    heads: heads - (choice?.heads[block]?.length ?? 0),
    neurons: neurons - (choice?.neurons[block]?.length ?? 0),
  }));
  return textCost({ ...spec, blocks }, choice?.bits);
}

/** The cost of a network of these shapes. @param bits of its quantised matrices, by name */
export function textCost(spec: CausalSpec, bits: BitsChoice = {}): TextCost {
  const positions = costWindow(spec);
  const { hidden, vocabulary, attentionBias, tied, blocks } = spec;
  let flops = 2 * hidden * vocabulary;
  let blockParameters = 0;
  for (const { heads, neurons } of blocks) {
    flops += heads * unitFlops(spec, 'heads', positions) + neurons * unitFlops(spec, 'neurons', positions);
    // The output biases belong to no unit.
    blockParameters += heads * unitParameters(spec, 'heads') + neurons * unitParameters(spec, 'neurons');
    blockParameters += attentionBias ? 2 * hidden : hidden;
  }
  const norms = (2 * blocks.length + 1) * 2 * hidden;
  const embeddings = (tied ? 1 : 2) * vocabulary * hidden;
  const parameters = blockParameters + norms + embeddings;
  let bytes = 4 * (parameters - (tied ? 0 : vocabulary * hidden));
  let [weights, weighted] = [0, 0];
  for (const { name, rows, columns } of quantisableMatrices(spec)) {
    const width = bits[name];
    weights += rows * columns;
    weighted += rows * columns * (width ?? 32);
    if (width !== undefined && isRead(spec, name)) bytes -= 4 * rows * columns - quantisedBytes(rows, columns, width);
  }
  return { flops, blockParameters, parameters, bytes, bits: weighted / weights };
}

/** Whether a decoded token reads the whole of a matrix: of embeddings that are not the logits' matrix it reads a row. */
export function isRead({ tied, prefix }: CausalSpec, name: string): boolean {
  return tied || name !== `${prefix}.embed_in.weight`;
}
