import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { openRepository } from '../../../libs/store/repository.js';
import { type Entered, matrixWork } from '../../../libs/store/testing/matrix-work.js';
import { sampleDraft } from '../../../libs/store/testing/versions.js';
import type { JobOutcome, PruneWork } from '../prune-work.js';

/**
 * Work for tests of the service that needs no model: power iteration on a random matrix whose size is the request's `samples`,
 * published as a version with the eigenvector's order as its plan.
 */
export function matrixPruning(entered: Entered = () => undefined): PruneWork {
  return async (request, context) => {
    const size = request.samples ?? 8;
    const plan = await matrixWork({ seed: request.seed, size, steps: 2 * size }, context, entered);
    await entered('write', 0, context.signal);
    return context.checkpoint<JobOutcome>('write', async () => {
      const repository = await openRepository(request.repository);
      const published = await repository.publish(
        request.name,
        async (directory) => {
          await writeFile(join(directory, 'model.onnx'), plan.digits);
          const { policy, loss, units, seed, lossBudget = null, flopsSaved = null } = request;
          return sampleDraft({
            publication: request.publication,
            plan,
            method: { policy, loss, units, seed, lossBudget, flopsSaved },
            deltaLoss: { predicted: 0.02, measured: 0.03, bound: 0.04, confidence: request.confidence, samples: size },
            flops: { dense: 100, mean: 60, segments: [{ constant: 0, linear: 1, quadratic: 0 }] },
            accuracy: { dense: 0.9, pruned: 0.89 },
          });
        },
        { signal: context.signal },
      );
      await entered('write', 1, context.signal);
      return published;
    });
  };
}
