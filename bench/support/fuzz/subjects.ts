/** The repository that a fuzzed server serves: models of known answers, and a small vision transformer with token stages. */
import { join } from 'node:path';
import { memoryContext, writeSmallModel } from '../../../libs/pruning/testing/small-model.js';
import { prune } from '../../../libs/pruning/prune.js';
import { createRuntime } from '../../../libs/runtime/runtime.js';
import { openRepository, type Repository } from '../../../libs/store/repository.js';
import { budgetDraft, budgetModel, meanModel, publishGraph } from '../../../services/server/testing/fixture-models.js';
import { healthyModel, spareModel, transformer } from './methods.js';

/** Makes the repository in `folder`. */
export async function makeSubjects(folder: string): Promise<Repository> {
  const directory = join(folder, 'models');
  const repository = await openRepository(directory, { create: true });
  for (const name of [healthyModel, spareModel]) {
    await publishGraph(repository, name, meanModel());
    await publishGraph(repository, name, budgetModel(), budgetDraft);
  }
  const model = await writeSmallModel(folder);
  const runtime = createRuntime({ workers: 1, threads: 1 });
  try {
    const rest = {
      units: ['tokens'],
      policy: 'curvature',
      loss: 'kl',
      lossBudget: 0.05,
      seed: 3,
      confidence: 0.95,
    } as const;
    const request = { ...model, name: transformer, repository: directory, ...rest };
    await prune(request, memoryContext(runtime, join(folder, 'work')));
  } finally {
    await runtime.close();
  }
  return repository;
}
