/** How good the weights are: accuracy and mean cross-entropy on a labelled dataset. */
import { readBatch } from '../data/batch.js';
import type { Dataset } from '../data/dataset.js';
import { internal } from '../errors/error.js';
import { encodeModel } from '../onnx/encode.js';
import type { Runtime, Session } from '../runtime/runtime.js';
import type { TensorValue } from '../runtime/tensor.js';
import type { Assessment } from './job.js';
import type { Parameters } from './parameters.js';
import { logitsGraph } from './step-graph.js';
import type { VitShape } from './vit-graph.js';

const batchSize = 50;

/** Runs the whole dataset through the model as it is now. */
export async function assess(
  runtime: Runtime,
  model: VitShape,
  parameters: Parameters,
  dataset: Dataset,
): Promise<Assessment> {
  const session = await runtime.load(encodeModel(logitsGraph(model, batchSize)), { prepacking: false });
  try {
    const weights = parameters.feeds();
    let correct = 0;
    let loss = 0;
    for (let from = 0; from < dataset.size; from += batchSize) {
      const indices = Array.from({ length: Math.min(batchSize, dataset.size - from) }, (_, at) => from + at);
      const { pixels, labels } = await readBatch(dataset, indices);
      const logits = await run(session, model, weights, pixels);
      indices.forEach((index, row) => {
        const scores = logits.subarray(row * model.classes, (row + 1) * model.classes);
        const label = labels?.[row] ?? -1;
        const score = scores[label];
        if (score === undefined) throw internal(`${dataset.name} has no label for sample ${index}`);
        const largest = Math.max(...scores);
        if (scores.indexOf(largest) === label) correct++;
        loss += largest + Math.log(scores.reduce((sum, value) => sum + Math.exp(value - largest), 0)) - score;
      });
    }
    return { samples: dataset.size, accuracy: correct / dataset.size, loss: loss / dataset.size };
  } finally {
    await session.dispose();
  }
}

/** Logits of at most `batchSize` images; the batch of the graph is fixed, so a smaller one is filled up. */
async function run(
  session: Session,
  model: VitShape,
  weights: Readonly<Record<string, TensorValue>>,
  pixels: Float32Array,
): Promise<Float32Array> {
  const dims = [batchSize, model.channels, model.imageSize, model.imageSize];
  const full = new Float32Array(dims.reduce((product, dim) => product * dim, 1));
  full.set(pixels);
  const { logits } = await session.run({ ...weights, pixel_values: { type: 'float32', dims, data: full } });
  if (!(logits?.data instanceof Float32Array)) throw internal('the model gave no logits');
  return logits.data;
}
