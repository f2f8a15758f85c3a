/** A model whose compute falls with its budget, small enough for a test. */
import { GraphBuilder } from '../../../../libs/onnx/builder.js';
import type { Graph } from '../../../../libs/onnx/ir.js';
import {
  add,
  cast,
  matMul,
  min,
  mul,
  reduceMax,
  reduceMean,
  reshape,
  sliceBy,
  sub,
} from '../../../../libs/onnx/ops/index.js';
import { floatTensor, inlineTensor } from '../../../../libs/onnx/tensor.js';
import type { ImageManifestDraft } from '../../../../libs/store/publish.js';

const tokens = 257;
const leastTokens = 33;
const width = 192;
const layers = 24;

/**
 * 24 products over 257 tokens of width 192 at budget 0, fewer in proportion down to 33 at budget 1; a run of several samples goes by the
 * greatest budget in it. `tokens_kept` is [B, 1].
 */
export function adjustableModel(): Graph {
  const g = new GraphBuilder('adjustable');
  const pixels = g.input('pixel_values', 'float32', ['B', 3, 8, 8]);
  const budget = g.input('budget', 'float32', ['B', 1]);
  const keptOf = (value: typeof budget) => sub(g, tokens, mul(g, min(g, value, 1), g.constant(tokens - leastTokens)));
  const end = cast(g, reshape(g, keptOf(reduceMax(g, budget, [0, 1], false)), [1]), 'int64');
  const places = g.initializer(
    'places',
    floatTensor('float32', [1, tokens, width], new Array<number>(tokens * width).fill(0)),
  );
  const all = add(g, reshape(g, pixels, ['B', 1, width]), places);
  let x = sliceBy(g, all, 1, g.integers([0]), end, 'kept');
  const weight = new Float32Array(width * width).fill(1 / width);
  for (let layer = 0; layer < layers; layer++) {
    x = matMul(g, x, g.initializer(`weight_${layer}`, inlineTensor('float32', [width, width], weight)));
  }
  const logits = reshape(g, reduceMean(g, x, [1], false), ['B', 3, width / 3]);
  const kept = cast(g, keptOf(budget), 'int32');
  return g.build([g.named('logits', reduceMean(g, logits, [2], false)), g.named('tokens_kept', kept)]);
}

/** What its manifest says: budgets 0 to 1. */
export const adjustableDraft: Partial<ImageManifestDraft> = {
  budget: { default: 0, ceiling: 1 },
  tokens: { total: tokens, special: 1, stages: [0] },
  flops: {
    dense: 2 * layers * tokens * width * width,
    mean: 2 * layers * tokens * width * width,
    segments: [
      { constant: 1, linear: 0, quadratic: 0 },
      { constant: 0, linear: 2 * layers * width * width, quadratic: 0 },
    ],
  },
};
