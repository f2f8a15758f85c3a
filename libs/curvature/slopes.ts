import { internal } from '../errors/error.js';
import { asFloat32, type Checkpoint } from '../models/checkpoint.js';
import { unitsOf, type GateKind } from '../models/gates.js';
import { loadGraph } from '../runtime/load-graph.js';
import type { Samples } from './batches.js';
import { defaultBatch } from './defaults.js';
import { filled, type CurvatureContext } from './estimate.js';
import type { Network } from './network.js';
import { networkOf } from './networks.js';
import { buildProbeGraph, names, probeSession } from './probe-graph.js';
import { measureInShards, type OpenMeasurement } from './shards.js';

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
  const { indices } = samples;
  const batch = Math.min(defaultBatch(network), indices.length);
  const settled: SettledSlopes = { kinds, batch };
  const total = indices.length;
  const parts = measureInShards(
    {
      measurement: 'slopes',
      options: settled,
      indices,
      batch,
      tokens: network.tokens,
      open: () => openSlopes(network, settled, context),
    },
    { ...context, progress: (done) => context.progress?.({ stage: 'score', done, total, unit: 'samples' }) },
  );
  let sums: Float64Array | undefined;
  for await (const { part } of parts) {
    sums ??= new Float64Array(part.length);
    for (let i = 0; i < part.length; i++) sums[i]! += part[i]!;
  }
  return (sums ?? new Float64Array(0)).map((sum) => sum / total);
}

/** Options as they are once the model and all samples are known: a shard needs no more. */
export interface SettledSlopes {
  readonly kinds: readonly GateKind[];
  readonly batch: number;
}

/** A shard of `meanSlopes`: the sums over its samples. */
export async function openSlopes(
  network: Network,
  { kinds, batch }: SettledSlopes,
  { runtime, workDirectory }: Pick<CurvatureContext, 'runtime' | 'workDirectory'>,
): Promise<OpenMeasurement<Float64Array>> {
  const counts = kinds.map((kind) => unitsOf(network, kind).reduce((a, b) => a + b, 0));
  const graph = buildProbeGraph(network, { kinds, loss: 'cross-entropy', space: 'gates', unrolled: 0, batch });
  const session = await loadGraph(runtime, graph, workDirectory, probeSession);
  const gates = Object.fromEntries(kinds.map((kind, at) => [kind, filled([batch, counts[at]!], 1)]));
  return {
    dispose: () => session.dispose(),
    async measure(indices, { signal, progress }) {
      const slopes = new Float64Array(counts.reduce((a, b) => a + b, 0));
      for await (const part of network.batches(indices, { batch, labels: true, signal })) {
        const outputs = await session.run({ ...part.feeds, ...gates }, signal ? { signal } : {});
        let first = 0;
        kinds.forEach((kind, at) => {
          const count = counts[at]!;
          const found = outputs[names.gradient(kind)]?.data;
          if (!(found instanceof Float32Array)) throw internal(`the graph gave no gradient of ${kind}`);
          for (let i = 0; i < part.indices.length * count; i++) slopes[first + (i % count)]! += Math.abs(found[i]!);
          first += count;
        });
        progress?.(part.start + part.indices.length);
      }
      return slopes;
    },
  };
}
