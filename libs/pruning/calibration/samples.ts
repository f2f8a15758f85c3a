import { specOf } from '../../models/classifier.js';
import { loadGraph } from '../../runtime/load-graph.js';
import type { Session } from '../../runtime/runtime.js';
import type { Job } from '../job.js';
import { batchFor, prepareSamples, type PreparedSamples } from '../measure/prepared.js';
import { denseGraph } from '../served-graph.js';

/** The samples of one part of the calibration data with the dense model's answers. */
export async function preparePart(
  { context, checkpoint, data }: Pick<Job, 'context' | 'checkpoint' | 'data'>,
  part: 'search' | 'certify',
): Promise<PreparedSamples> {
  const spec = specOf(checkpoint);
  let dense: Session | undefined;
  try {
    dense = await loadGraph(context.runtime, denseGraph(checkpoint), context.workDirectory);
    const indices = data.parts[part];
    return await prepareSamples(data.dataset, indices, dense, spec.image, {
      batch: batchFor(spec.tokens, spec.hidden),
      signal: context.signal,
      progress: (done) => context.progress({ stage: part, done, total: indices.length, unit: 'samples' }),
    });
  } finally {
    await dense?.dispose();
  }
}
