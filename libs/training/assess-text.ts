/** How good the weights of a language model are: next-token accuracy and mean cross-entropy over whole documents. */
import type { TokenDocument } from '../data/text/dataset.js';
import { internal } from '../errors/error.js';
import { encodeModel } from '../onnx/encode.js';
import type { Runtime } from '../runtime/runtime.js';
import type { TensorValue } from '../runtime/tensor.js';
import { causalLogitsGraph, type CausalShape } from './causal-graph.js';
import type { Assessment } from './job.js';
import type { Parameters } from './parameters.js';

/** Windows of a run. */
export const assessedBatch = 8;

/** A window of a document, and the first of its predictions that counts. */
interface Window {
  readonly stream: Int32Array;
  readonly start: number;
  readonly from: number;
}

/** Logits [8, context, vocabulary] of windows [8, context]. */
export type TextModel = (windows: TensorValue) => Promise<Float32Array>;

/** {@link assessDocuments} of the model of a recipe with its weights as they are now. */
export async function assessText(
  runtime: Runtime,
  model: CausalShape,
  parameters: Parameters,
  documents: readonly TokenDocument[],
  endOfText: number,
): Promise<Assessment> {
  const graph = causalLogitsGraph(model, assessedBatch, model.context);
  const session = await runtime.load(encodeModel(graph), { prepacking: false });
  const weights = parameters.feeds();
  try {
    const run = async (windows: TensorValue) => {
      const { logits } = await session.run({ ...weights, input_ids: windows });
      if (!(logits?.data instanceof Float32Array)) throw internal('the model gave no logits');
      return logits.data;
    };
    return await assessDocuments(run, model, documents, endOfText);
  } finally {
    await session.dispose();
  }
}

/**
 * Predicts every token of the documents once, the mark `endOfText` before each document, in windows as long as the context that move on by half
 * of it: a token has at least half a context before it, where its document has that.
 */
export async function assessDocuments(
  run: TextModel,
  { context: positions, vocabulary }: Pick<CausalShape, 'context' | 'vocabulary'>,
  documents: readonly TokenDocument[],
  endOfText: number,
): Promise<Assessment> {
  const windows = documents.flatMap(({ ids }) => windowsOf(Int32Array.of(endOfText, ...ids), positions));
  let [tokens, correct, loss] = [0, 0, 0];
  for (let first = 0; first < windows.length; first += assessedBatch) {
    const batch = windows.slice(first, first + assessedBatch);
    const data = new BigInt64Array(assessedBatch * positions);
    batch.forEach(({ stream, start }, row) => {
      // What lies beyond the end of the stream stays 0: no token before it sees it, and it is not counted.
      stream.subarray(start, start + positions).forEach((id, at) => (data[row * positions + at] = BigInt(id)));
    });
    const logits = await run({ type: 'int64', dims: [assessedBatch, positions], data });
    for (const [row, { stream, start, from }] of batch.entries()) {
      const end = Math.min(positions, stream.length - 1 - start);
      for (let at = from; at < end; at++) {
        const place = (row * positions + at) * vocabulary;
        const scores = logits.subarray(place, place + vocabulary);
        const target = stream[start + at + 1]!;
        const largest = scores.reduce((most, value) => Math.max(most, value), -Infinity);
        if (scores[target] === largest) correct++;
        loss += largest + Math.log(scores.reduce((sum, value) => sum + Math.exp(value - largest), 0)) - scores[target]!;
        tokens++;
      }
    }
  }
  return { samples: tokens, accuracy: correct / tokens, loss: loss / tokens };
}

function windowsOf(stream: Int32Array, positions: number): Window[] {
  const half = Math.floor(positions / 2);
  const windows: Window[] = [{ stream, start: 0, from: 0 }];
  for (let start = half; start + positions - half < stream.length - 1; start += half) {
    windows.push({ stream, start, from: positions - half });
  }
  return windows;
}
