import { buildClassifier, specOf } from '../../models/classifier.js';
import { loadGraph } from '../../runtime/load-graph.js';
import type { Job } from '../job.js';
import { measure, meanOf } from '../measure/measure.js';
import type { PreparedSamples } from '../measure/prepared.js';
import { FIXED_KINDS } from '../tasks/task.js';
import { gatesWithout } from './gates.js';
import type { RemovedUnits } from './remove.js';

/** The unpruned network with gates on heads and neurons, by which any choice of them can be measured. */
export interface GatedClassifier {
  /** Mean KL on the samples, nats, with gates of zero (or what is `left`) on what is removed. */
  measure(samples: PreparedSamples, removed: RemovedUnits, left?: number): Promise<number>;
  dispose(): Promise<void>;
}

export async function openGatedNetwork({
  checkpoint,
  context,
}: Pick<Job, 'checkpoint' | 'context'>): Promise<GatedClassifier> {
  const spec = specOf(checkpoint);
  const { g, logits } = buildClassifier(checkpoint, { lowering: 'canonical', gates: FIXED_KINDS, name: 'gated' });
  const session = await loadGraph(context.runtime, g.build([g.named('logits', logits)]), context.workDirectory);
  return {
    async measure(samples, removed, left) {
      const feeds = (size: number) => gatesWithout(spec.blocks, removed, size, left);
      const { kl } = await measure(session, samples, feeds, { signal: context.signal });
      return meanOf(kl);
    },
    dispose: () => session.dispose(),
  };
}
