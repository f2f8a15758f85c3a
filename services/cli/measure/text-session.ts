import { join } from 'node:path';
import { permutation, randomFor } from '../../../libs/data/random.js';
import type { TokenDocument } from '../../../libs/data/text/dataset.js';
import { openInputIds } from '../../../libs/data/text/input-ids.js';
import { openText } from '../../../libs/data/text/open.js';
import { openTokenizer } from '../../../libs/data/text/tokenizer.js';
import { invalid } from '../../../libs/errors/error.js';
import { textManifest } from '../../../libs/store/manifest.js';
import { openRepository } from '../../../libs/store/repository.js';
import type { Context } from '../context.js';
import { openRuntime } from '../provider-options.js';
import { versionsWanted, type MeasureOptions } from './session.js';
import { loadTextVersion, type LoadedTextVersion } from './text-version.js';

export interface TextMeasureOptions extends MeasureOptions {
  /** Tokens of a window; by default 512, or the model's context where that is less. */
  readonly window?: number;
}

export interface MeasuredText {
  readonly versions: readonly LoadedTextVersion[];
  /** Version 1; undefined where it is gone. */
  readonly baseline: LoadedTextVersion | undefined;
  readonly name: string;
  readonly digest: string;
  /** Those to measure on, drawn by seed where not all are wanted. */
  readonly documents: readonly TokenDocument[];
  readonly window: number;
}

/** Tokens of a window unless told, where the context has as many. */
const defaultWindow = 512;

/** Opens versions of a language model and text, hands them to `work`, and frees them whatever happens. */
export async function withTextVersions<T>(
  options: TextMeasureOptions,
  world: Pick<Context, 'signal' | 'stderr'>,
  work: (measured: MeasuredText) => Promise<T>,
): Promise<T> {
  const repository = await openRepository(options.repository);
  const { wanted, present } = await versionsWanted(repository, options);
  const manifest = textManifest((await repository.resolve(options.name, wanted[0])).manifest);
  const { context, vocabulary, tokenizer: file } = manifest.text;
  const window = options.window ?? Math.min(context, defaultWindow);
  if (window > context) throw invalid(`--window: ${window} tokens, expected at most ${context}, the model's context`);
  const tokenizer = await openTokenizer(join(repository.versionDirectory(options.name, wanted[0]!), file));
  // Documents are taken whole: windows of two tokens leave none out.
  const split = options.split ? { split: options.split } : {};
  const dataset = options.data.endsWith('.safetensors')
    ? await openInputIds(options.data, vocabulary)
    : await openText(options.data, tokenizer, { positions: 2, vocabulary, ...split });
  const order = permutation(dataset.documents.length, randomFor(options.seed));
  const drawn = [...order.slice(0, options.samples ?? dataset.documents.length)];
  const { signal } = world;
  const runtime = await openRuntime(options, world, { workers: 1 });
  try {
    const loaded = new Map<number, LoadedTextVersion>();
    for (const version of new Set([...wanted, ...present.filter((version) => version === 1)])) {
      const { budget } = options;
      loaded.set(version, await loadTextVersion(repository, runtime, options.name, version, { budget, signal }));
    }
    return await work({
      versions: wanted.map((version) => loaded.get(version)!),
      baseline: loaded.get(1),
      name: dataset.name,
      digest: dataset.digest,
      documents: drawn.map((index) => dataset.documents[index]!),
      window,
    });
  } finally {
    await runtime.close();
  }
}
