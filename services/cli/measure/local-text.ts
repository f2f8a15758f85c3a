import { createRuntime } from '../../../libs/runtime/runtime.js';
import { openRepository } from '../../../libs/store/repository.js';
import { asLanguageModel, loadVersion, type ServedLanguageModel } from '../../server/catalog/served-version.js';
import { manifestBudget } from '../../server/inference/budget.js';
import { Generation, textSourceOf } from '../../server/inference/generation.js';
import { settingsOf } from '../../server/options.js';
import type { TextSource } from '../../server/inference/text-source.js';

export interface LocalText {
  readonly repository: string;
  readonly name: string;
  /** Undefined: the pinned one, else the newest. */
  readonly version?: number | undefined;
}

/**
 * Loads a version of a language model into this process as a server would, hands it to `work`, and frees it whatever happens.
 * Throws NOT_FOUND, INVALID_ARGUMENT (an image classifier), and as `loadVersion`.
 */
export async function withLocalText<T>(
  { repository: directory, name, version }: LocalText,
  signal: AbortSignal,
  work: (source: TextSource) => Promise<T>,
): Promise<T> {
  const repository = await openRepository(directory);
  const entry = await repository.resolve(name, version);
  const runtime = createRuntime({ workers: 1 });
  try {
    const settings = { ...settingsOf({ repository: directory }), instances: 1, warmUpSizes: [], warmUp: false };
    const served = asLanguageModel(await loadVersion(repository, runtime, entry, settings, signal));
    try {
      return await work(sourceOf(served));
    } finally {
      await served.retire();
    }
  } finally {
    await runtime.close();
  }
}

/** Texts by the same road as a server's. */
function sourceOf(served: ServedLanguageModel): TextSource {
  const defect = (error: unknown): never => {
    throw error;
  };
  return textSourceOf(new Generation({ resolve: () => served }, manifestBudget, [], defect));
}
