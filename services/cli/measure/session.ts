import { HeartwoodError, invalid } from '../../../libs/errors/error.js';
import { permutation, randomFor } from '../../../libs/data/random.js';
import { openDataset } from '../../../libs/data/open.js';
import type { Dataset } from '../../../libs/data/dataset.js';
import { imageManifest } from '../../../libs/store/manifest.js';
import { openRepository, type Repository } from '../../../libs/store/repository.js';
import type { ProviderOptions } from '../../settings/provider.js';
import type { Context } from '../context.js';
import { openRuntime } from '../provider-options.js';
import { loadVersion, type LoadedVersion } from './loaded-version.js';

export interface MeasureOptions extends ProviderOptions {
  readonly repository: string;
  readonly name: string;
  readonly versions?: readonly number[];
  readonly data: string;
  readonly split?: 'train' | 'validation' | 'test';
  readonly samples?: number;
  readonly seed: number;
  readonly budget?: number;
}

export interface Measured {
  readonly versions: readonly LoadedVersion[];
  /** Version 1; undefined where it is gone. */
  readonly baseline: LoadedVersion | undefined;
  readonly dataset: Dataset;
  /** The samples to measure on, drawn by seed where not all are wanted. */
  readonly indices: readonly number[];
}

/** The versions that are asked for, and those that are there. Throws NOT_FOUND for one that is not. */
export async function versionsWanted(
  repository: Repository,
  options: Pick<MeasureOptions, 'name' | 'versions'>,
): Promise<{ readonly wanted: readonly number[]; readonly present: readonly number[] }> {
  const present = await repository.listVersions(options.name);
  const wanted = options.versions ?? present;
  const missing = wanted.find((version) => !present.includes(version));
  if (missing !== undefined) {
    throw new HeartwoodError(
      'NOT_FOUND',
      `version ${missing} of ${options.name}: expected one of ${present.join(', ')}`,
    );
  }
  return { wanted, present };
}

/** Opens versions and data, hands them to `work`, and frees them whatever happens. */
export async function withVersions<T>(
  options: MeasureOptions,
  context: Pick<Context, 'signal' | 'stderr'>,
  work: (measured: Measured) => Promise<T>,
): Promise<T> {
  const repository = await openRepository(options.repository);
  const { wanted, present } = await versionsWanted(repository, options);
  const manifest = imageManifest((await repository.resolve(options.name, wanted[0])).manifest);
  const dataset = await openDataset(options.data, manifest.preprocessing, {
    classes: manifest.labels,
    ...(options.split ? { split: options.split } : {}),
  });
  if (dataset.size === 0) throw invalid(`${options.data}: no samples, expected at least one`);
  const order = permutation(dataset.size, randomFor(options.seed));
  const { signal } = context;
  const runtime = await openRuntime(options, context, { workers: 1 });
  try {
    const load = (version: number) =>
      loadVersion(repository, runtime, options.name, version, { budget: options.budget, signal });
    const loaded = new Map<number, LoadedVersion>();
    for (const version of new Set([...wanted, ...present.filter((version) => version === 1)])) {
      loaded.set(version, await load(version));
    }
    return await work({
      versions: wanted.map((version) => loaded.get(version)!),
      baseline: loaded.get(1),
      dataset,
      indices: [...order.slice(0, options.samples ?? dataset.size)],
    });
  } finally {
    await runtime.close();
  }
}
