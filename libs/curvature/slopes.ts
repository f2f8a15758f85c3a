import { internal } from '../errors/error.js';
import { asFloat32, type Checkpoint } from '../models/checkpoint.js';
import { unitsOf, type GateKind } from '../models/gates.js';
import { loadGraph } from '../runtime/load-graph.js';
import type { Samples } from './batches.js';
import { defaultBatch } from './defaults.js';
import { filled, type CurvatureContext } from './estimate.js';
import { networkOf } from './networks.js';
import { buildProbeGraph, names, probeSession } from './probe-graph.js';

/**
 * The mean over samples of |∂L/∂m|, L the cross-entropy of a sample (of text: of a window), for gates that all samples share: the
 * first-order criterion (Molchanov et al., arXiv 1611.06440). Gates of each kind follow those of the one before. Throws INVALID_ARGUMENT
 * where there are no labels, CANCELLED.
 */
export async function meanSlopes(
  checkpoint: Checkpoint,
  samples: Samples,
  kinds: readonly GateKind[],
  context: CurvatureContext,
): Promise<Float64Array> {
  const network = networkOf(await asFloat32(checkpoint, context.workDirectory), samples.dataset);
  const counts = kinds.map((kind) => unitsOf(network, kind).reduce((a, b) => a + b, 0));
  const batch = Math.min(defaultBatch(network), samples.indices.length);
  const graph = buildProbeGraph(network, { kinds, loss: 'cross-entropy', space: 'gates', unrolled: 0, batch });
  const session = await loadGraph(context.runtime, graph, context.workDirectory, probeSession);
  const slopes = new Float64Array(counts.reduce((a, b) => a + b, 0));
  try {
    const gates = Object.fromEntries(kinds.map((kind, at) => [kind, filled([batch, counts[at]!], 1)]));
    for await (const part of network.batches(samples.indices, { batch, labels: true, signal: context.signal })) {
      const outputs = await session.run({ ...part.feeds, ...gates });
      let first = 0;
      kinds.forEach((kind, at) => {
        const count = counts[at]!;
        const found = outputs[names.gradient(kind)]?.data;
        if (!(found instanceof Float32Array)) throw internal(`the graph gave no gradient of ${kind}`);
        for (let i = 0; i < part.indices.length * count; i++) {
          slopes[first + (i % count)]! += Math.abs(found[i]!) / samples.indices.length;
        }
        first += count;
      });
      const done = part.start + part.indices.length;
      context.progress?.({ stage: 'score', done, total: samples.indices.length, unit: 'samples' });
    }
  } finally {
    await session.dispose();
  }
  return slopes;
}
