/** Small models with the served interface, whose answers can be foretold, for the tests of the server. */
import { GraphBuilder } from '../../../libs/onnx/builder.js';
import type { Graph } from '../../../libs/onnx/ir.js';
import { add, cast, matMul, min, mul, reduceMean, reshape, sub } from '../../../libs/onnx/ops/index.js';
import { floatTensor, inlineTensor } from '../../../libs/onnx/tensor.js';
import { writeModel } from '../../../libs/onnx/write.js';
import type { ImageManifestDraft } from '../../../libs/store/publish.js';
import type { Repository } from '../../../libs/store/repository.js';
import { sampleDraft } from '../../../libs/store/testing/versions.js';

const side = 8;
export const fixtureTokens = 17;

/** logits = the mean of each channel + `bias`, [B, 3]. */
export function meanModel(bias = 0): Graph {
  return tensorMeanModel(side, bias);
}

/** As `meanModel`, of images of any size: next to no work for a large tensor. */
export function tensorMeanModel(size: number, bias = 0): Graph {
  const g = new GraphBuilder('mean');
  const pixels = g.input('pixel_values', 'float32', ['B', 3, size, size]);
  return g.build([g.named('logits', add(g, reduceMean(g, pixels, [2, 3], false), bias))]);
}

/** As `meanModel`, plus the budget; two stages keep 17 − 4·budget and 17 − 8·budget tokens (budgets above 2 count as 2). */
export function budgetModel(): Graph {
  const g = new GraphBuilder('budget');
  const pixels = g.input('pixel_values', 'float32', ['B', 3, side, side]);
  const budget = g.input('budget', 'float32', ['B', 1]);
  const logits = add(g, reduceMean(g, pixels, [2, 3], false), budget);
  const kept = sub(g, fixtureTokens, mul(g, min(g, budget, 2), g.constant([4, 8], [1, 2])));
  return g.build([g.named('logits', logits), g.named('tokens_kept', cast(g, kept, 'int32'))]);
}

/** The matrix products of ViT-B/16 (12 blocks of width 768 and 3072 over 196 tokens, 33 GFLOPs) with one block's weights for all. */
export function heavyModel(): Graph {
  const g = new GraphBuilder('heavy');
  const [tokens, width, hidden] = [196, 768, 3072];
  const pixels = g.input('pixel_values', 'float32', ['B', 3, 224, 224]);
  const weight = (name: string, rows: number, columns: number) =>
    g.initializer(name, inlineTensor('float32', [rows, columns], new Float32Array(rows * columns).fill(1 / rows)));
  const square = weight('square', width, width);
  const up = weight('up', width, hidden);
  const down = weight('down', hidden, width);
  let x = reshape(g, pixels, ['B', tokens, width]);
  for (let block = 0; block < 12; block++) {
    for (let product = 0; product < 4; product++) x = matMul(g, x, square);
    // The sum keeps the blocks apart: equal nodes over equal inputs would be one node.
    x = add(g, matMul(g, matMul(g, x, up), down), g.initializer(`shift_${block}`, floatTensor('float32', [], [block])));
  }
  return g.build([g.named('logits', reduceMean(g, x, [1], false))]);
}

/** Publishes a graph as the next version of a model, with a manifest that fits it. */
export async function publishGraph(
  repository: Repository,
  model: string,
  graph: Graph,
  overrides: Partial<ImageManifestDraft> = {},
): Promise<number> {
  const pixels = graph.inputs.find(({ name }) => name === 'pixel_values');
  const [, channels, height, width] = pixels?.shape as number[];
  const draft = sampleDraft({
    input: { channels: channels as number, height: height as number, width: width as number },
    labels: ['red', 'green', 'blue'],
    preprocessing: { ...sampleDraft().preprocessing, size: { height: height as number, width: width as number } },
    ...overrides,
  });
  const published = await repository.publish(model, async (directory) => {
    await writeModel(graph, `${directory}/model.onnx`);
    return draft;
  });
  return published.version;
}

/** What the manifest of `budgetModel` says: default budget 0.25, segments of 1 + 10 t + t² FLOPs. */
export const budgetDraft: Partial<ImageManifestDraft> = {
  parent: 1,
  budget: { default: 0.25, ceiling: 1 },
  tokens: { total: fixtureTokens, special: 1, stages: [1, 2] },
  flops: {
    dense: 1410,
    mean: 1000,
    segments: [0, 1, 2].map(() => ({ constant: 1, linear: 10, quadratic: 1 })),
  },
  method: { policy: 'curvature', loss: 'kl', lossBudget: 0.25, flopsSaved: null, units: ['tokens'], seed: 0 },
};
