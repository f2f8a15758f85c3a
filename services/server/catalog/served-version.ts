import type { Runtime } from '../../../libs/runtime/runtime.js';
import { invalid } from '../../../libs/errors/error.js';
import { IMAGE_CLASSIFICATION } from '../../../libs/store/manifest.js';
import type { Repository } from '../../../libs/store/repository.js';
import type { VersionEntry } from '../../../libs/store/snapshot.js';
import { type ClassifierSettings, loadClassifier, type ServedClassifier } from './served-classifier.js';
import { type LanguageModelSettings, loadLanguageModel, type ServedLanguageModel } from './served-language-model.js';

export { BUDGET, IMAGE, LOGITS, PIXELS, TOKENS_KEPT } from './tensor-names.js';
export { ServedClassifier } from './served-classifier.js';
export { ServedLanguageModel } from './served-language-model.js';

/** A loaded version, of either task. */
export type ServedVersion = ServedClassifier | ServedLanguageModel;

export function isClassifier(served: ServedVersion): served is ServedClassifier {
  return served.task === IMAGE_CLASSIFICATION;
}

/** Throws INVALID_ARGUMENT for a language model. */
export function asClassifier(served: ServedVersion): ServedClassifier {
  if (isClassifier(served)) return served;
  throw invalid(`model ${served.model}: it generates text, expected an image classifier`);
}

/** Throws INVALID_ARGUMENT for a classifier. */
export function asLanguageModel(served: ServedVersion): ServedLanguageModel {
  if (!isClassifier(served)) return served;
  throw invalid(`model ${served.model}: it classifies images, expected a language model`);
}

/** What versions of either task are loaded with. */
export type LoadSettings = ClassifierSettings & LanguageModelSettings;

/**
 * Loads a version after checking its digests: the runtime never sees a file that is not what was published. Then runs it, so that what
 * loads but cannot run is found out before a request does.
 * Throws FAILED_PRECONDITION naming the file that differs, INVALID_ARGUMENT when the runtime cannot load the model or it does not
 * fit its manifest, and what a run of the warm-up throws.
 */
export async function loadVersion(
  repository: Repository,
  runtime: Runtime,
  entry: VersionEntry,
  settings: LoadSettings,
  signal?: AbortSignal,
): Promise<ServedVersion> {
  const manifest = await repository.verify(entry.manifest.model, entry.version, signal);
  if (manifest.task === IMAGE_CLASSIFICATION)
    return loadClassifier(runtime, entry.directory, manifest, settings, signal);
  return loadLanguageModel(runtime, entry.directory, manifest, settings, signal);
}
