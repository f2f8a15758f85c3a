import { buildClassifier, specOf } from '../../models/classifier.js';
import { unitsOf } from '../../models/gates.js';
import { loadGraph } from '../../runtime/load-graph.js';
import type { TensorValue } from '../../runtime/tensor.js';
import type { Job } from '../job.js';
import { measure, meanOf } from '../measure/measure.js';
import type { PreparedSamples } from '../measure/prepared.js';
import type { RemovedUnits } from './remove.js';

/** The unpruned network with gates on heads and neurons, by which any choice of them can be measured. */
export interface GatedNetwork {
  /** Mean KL on the samples, nats, with gates of zero on what is removed. */
  measure(samples: PreparedSamples, removed: RemovedUnits): Promise<number>;
  dispose(): Promise<void>;
}

export async function openGatedNetwork({
  checkpoint,
  context,
}: Pick<Job, 'checkpoint' | 'context'>): Promise<GatedNetwork> {
  const spec = specOf(checkpoint);
  const kinds = ['heads', 'neurons'] as const;
  const { g, logits } = buildClassifier(checkpoint, { lowering: 'canonical', gates: kinds, name: 'gated' });
  const session = await loadGraph(context.runtime, g.build([g.named('logits', logits)]), context.workDirectory);
  const gates = (size: number, kind: (typeof kinds)[number], removed: RemovedUnits): TensorValue => {
    const units = unitsOf(spec, kind);
    const total = units.reduce((sum, n) => sum + n, 0);
    const row = new Float32Array(total).fill(1);
    let first = 0;
    units.forEach((count, block) => {
      for (const unit of removed[kind][block] ?? []) row[first + unit] = 0;
      first += count;
    });
    const data = new Float32Array(size * total);
    for (let sample = 0; sample < size; sample++) data.set(row, sample * total);
    return { type: 'float32', dims: [size, total], data };
  };
  return {
    async measure(samples, removed) {
      const feeds = (size: number) => ({
        heads: gates(size, 'heads', removed),
        neurons: gates(size, 'neurons', removed),
      });
      const { kl } = await measure(session, samples, feeds, { signal: context.signal });
      return meanOf(kl);
    },
    dispose: () => session.dispose(),
  };
}
