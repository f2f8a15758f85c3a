import { readBatch } from '../../../libs/data/batch.js';
import type { Dataset } from '../../../libs/data/dataset.js';
import { openDataset } from '../../../libs/data/open.js';
import { permutation, randomFor } from '../../../libs/data/random.js';
import type { ImagePreprocessing } from '../../../libs/models/preprocessing.js';
import { HeartwoodError, invalid } from '../../../libs/errors/error.js';
import type { InferenceClient } from '../../server/client.js';
import type { Lane, SampleBatch, SampleSource } from '../../server/comparison/lane.js';
import type { RemoteSample } from '../../server/serving/compare-client.js';
import type { LoadedVersion } from './loaded-version.js';
import type { MeasureOptions } from './session.js';

interface PixelBatch extends SampleBatch {
  /** [size, C, H, W]. */
  readonly pixels: Float32Array;
}

/** The samples of a dataset, preprocessed. */
export function sourceOf(dataset: Dataset, indices: readonly number[]): SampleSource<PixelBatch> {
  return {
    size: indices.length,
    labelled: dataset.labelled,
    read: async (samples) => {
      const batch = await readBatch(
        dataset,
        samples.map((sample) => indices[sample]!),
      );
      return { ...batch, size: samples.length };
    },
  };
}

/** A version in a session of this process. */
export function laneOf({ version, manifest, budget, classify }: LoadedVersion): Lane<PixelBatch> {
  return {
    version,
    policy: manifest.method?.policy ?? 'unpruned',
    async answer({ pixels, size }, signal) {
      const { logits, classes, kept, flops } = await classify(pixels, size, signal);
      const budgets = budget === null ? {} : { budget: new Array<number>(size).fill(budget) };
      return { logits, classes, tokensKept: kept, flops, ...budgets };
    },
  };
}

/** Data for a server, which preprocesses by itself: encoded images where the data are images. */
export interface RemoteData {
  readonly dataset: Dataset;
  /** How many are sent. */
  readonly size: number;
  samples(signal: AbortSignal): AsyncGenerator<RemoteSample>;
}

/** Opens data for a model that a server has. Throws NOT_FOUND and UNAVAILABLE of the model, and what opening data throws. */
export async function openRemoteData(
  client: InferenceClient,
  options: Omit<MeasureOptions, 'repository'>,
): Promise<RemoteData> {
  const [first] = options.versions ?? [];
  const [metadata, versions] = await Promise.all([
    client.modelMetadata(options.name, first),
    client.listVersions(options.name),
  ]);
  const input = metadata.inputs.find(({ name }) => name === 'pixel_values');
  const [, channels, height, width] = input?.shape.map(Number) ?? [];
  if (!channels || !height || !width) {
    throw new HeartwoodError('FAILED_PRECONDITION', `${options.name}: expected a model of pixel_values [B, C, H, W]`);
  }
  const facts = versions.find(({ version }) => first === undefined || Number(version) === first)?.facts;
  const dataset = await openDataset(options.data, asTheyAre(channels, height, width), {
    ...(facts && facts.labels.length > 0 ? { classes: facts.labels } : {}),
    ...(options.split ? { split: options.split } : {}),
  });
  if (dataset.size === 0) throw invalid(`${options.data}: no samples, expected at least one`);
  const order = permutation(dataset.size, randomFor(options.seed));
  const indices = [...order.slice(0, options.samples ?? dataset.size)];
  return { dataset, size: indices.length, samples: (signal) => samplesOf(dataset, indices, signal) };
}

async function* samplesOf(
  dataset: Dataset,
  indices: readonly number[],
  signal: AbortSignal,
): AsyncGenerator<RemoteSample> {
  for (const index of indices) {
    signal.throwIfAborted();
    const [image, { pixels, label, name }] = await Promise.all([dataset.image(index), dataset.read(index)]);
    yield { input: image === undefined ? { pixels } : { image }, label, name };
  }
}

/** The pixels of images are the server's to make; what is already tensors has to have the model's shape. */
function asTheyAre(channels: number, height: number, width: number): ImagePreprocessing {
  if (channels !== 1 && channels !== 3) throw invalid(`a model of ${channels} channels, expected 1 or 3`);
  return {
    size: { height, width },
    resample: 'nearest',
    resize: true,
    rescale: 0,
    mean: new Array<number>(channels).fill(0),
    std: new Array<number>(channels).fill(1),
    channels,
  };
}
