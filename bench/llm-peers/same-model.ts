import { generationGraph } from '../../libs/models/generation-graph.js';
import { packAttention } from '../../libs/models/packed-attention.js';
import { Generating } from '../../libs/models/testing/generation.js';
import { checkpointWeights } from '../../libs/models/weights.js';
import { loadGraph } from '../../libs/runtime/load-graph.js';
import { createRuntime } from '../../libs/runtime/runtime.js';
import type { Subject } from '../support/generation/subject.js';
import type { LlamaProcess } from './llama-process.js';

/** Of the logits' standard deviation: tokens that are nearer than this to the likeliest are ties. */
const tie = 0.02;

/**
 * Whether llama.cpp runs the same network: it generates, and at each of its tokens our logits (float32) have that one as the likeliest, or as
 * good as.
 */
export async function sameModel(
  { checkpoint, spec, workDirectory }: Subject,
  llama: LlamaProcess,
  prompt: readonly number[],
  tokens: number,
): Promise<{ readonly held: boolean; readonly said: string }> {
  const { ids } = await llama.run(prompt, tokens);
  const runtime = createRuntime({ workers: 1 });
  try {
    const packed = await packAttention(checkpoint, workDirectory);
    const graph = generationGraph(checkpoint, { weights: () => checkpointWeights(checkpoint, packed) });
    const session = await loadGraph(runtime, graph, workDirectory);
    const sequence = [...prompt, ...ids.slice(0, -1)];
    const streams = new Generating(session, graph.caches, 1, sequence.length);
    const wanted = ids.map((_, i) => prompt.length - 1 + i);
    const result = await streams.step({ ids: [sequence], wanted: [wanted] });
    const all = result['logits']!.data as Float32Array;
    let [same, widest] = [0, 0];
    ids.forEach((id, at) => {
      const logits = all.subarray(at * spec.vocabulary, (at + 1) * spec.vocabulary);
      const most = logits.reduce((best, value) => Math.max(best, value), -Infinity);
      if (logits[id] === most) same++;
      widest = Math.max(widest, (most - logits[id]!) / deviation(logits));
    });
    const said = `${same} of ${ids.length} tokens of llama.cpp are our likeliest; the others are at most ${widest.toExponential(1)} deviations of the logits below`;
    return { held: widest <= tie, said };
  } finally {
    await runtime.close();
  }
}

function deviation(values: Float32Array): number {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length);
}
