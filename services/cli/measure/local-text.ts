import { createRuntime } from '../../../libs/runtime/runtime.js';
import { openRepository } from '../../../libs/store/repository.js';
import { asLanguageModel, loadVersion, type ServedLanguageModel } from '../../server/catalog/served-version.js';
import { manifestBudget } from '../../server/inference/budget.js';
import { Generation, textSourceOf } from '../../server/inference/generation.js';
import type { TextSource } from '../../server/inference/text-source.js';
import { settingsOf } from '../../server/options.js';

export interface LocalText {
  readonly repository: string;
  readonly name: string;
  /** Undefined for the pinned one, else the newest. */
  readonly versions: readonly (number | undefined)[];
  /** Whether each generates a text before `work` begins. */
  readonly warmUp: boolean;
}

/** A version of a language model in this process. */
export interface LocalVersion {
  readonly served: ServedLanguageModel;
  readonly source: TextSource;
}

/**
 * Loads versions of a language model into this process as a server would, hands them to `work`, and frees them whatever happens.
 * Throws NOT_FOUND, INVALID_ARGUMENT (an image classifier), and as `loadVersion`.
 */
export async function withLocalText<T>(
  { repository: directory, name, versions, warmUp }: LocalText,
  signal: AbortSignal,
  work: (versions: readonly LocalVersion[]) => Promise<T>,
): Promise<T> {
  const repository = await openRepository(directory);
  const runtime = createRuntime({ workers: 1 });
  const loaded: LocalVersion[] = [];
  try {
    const settings = { ...settingsOf({ repository: directory }), instances: 1, warmUpSizes: [], warmUp };
    for (const version of versions) {
      const entry = await repository.resolve(name, version);
      const served = asLanguageModel(await loadVersion(repository, runtime, entry, settings, signal));
      loaded.push({ served, source: sourceOf(served) });
    }
    return await work(loaded);
  } finally {
    await Promise.all(loaded.map(({ served }) => served.retire()));
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
