import { checkLabel } from '../../../libs/data/dataset.js';
import { HeartwoodError, invalid } from '../../../libs/errors/error.js';
import type { CompareRequest, CompareSample } from '../../../proto/gen/heartwood/serving/v1/serving.js';
import { IMAGE, PIXELS, type ServedClassifier } from '../catalog/served-version.js';
import type { SampleBatch, SampleSource } from '../comparison/lane.js';
import type { FeedMaker } from '../inference/feeds.js';
import type { WireTensor } from '../inference/wire-tensor.js';

/** A batch of what the client sent, as the input of a call. A call's feeds are its own, so each has its own copy. */
export interface HeldBatch extends SampleBatch {
  input(): WireTensor;
}

/** The samples of a comparison, in memory. */
export interface Held<Batch extends SampleBatch> extends SampleSource<Batch> {
  /** Gives their bytes back to the allowance. */
  release(): void;
}

/** Bytes that the samples of all comparisons may hold together. */
export class Allowance {
  #held = 0;

  constructor(readonly bytes: number) {}

  get held(): number {
    return this.#held;
  }

  /** Throws RESOURCE_EXHAUSTED beyond the allowance. */
  take(bytes: number): void {
    if (this.#held + bytes > this.bytes) {
      throw new HeartwoodError(
        'RESOURCE_EXHAUSTED',
        `the samples are more than the ${this.bytes} bytes that comparisons may hold: send fewer of them, or raise the server's limit`,
      );
    }
    this.#held += bytes;
  }

  give(bytes: number): void {
    this.#held -= bytes;
  }

  /** What one comparison takes of it. `take` as above; `release` gives all of it back, once. */
  open(): { take(bytes: number): void; release(): void } {
    let taken = 0;
    return {
      take: (bytes) => {
        this.take(bytes);
        taken += bytes;
      },
      release: () => {
        this.give(taken);
        taken = 0;
      },
    };
  }
}

/** What a sample costs beside its bytes. */
const overhead = 256;
const longestName = 120;

type Input = { readonly image: Uint8Array } | { readonly pixels: Float32Array };

export interface CompareLimits {
  readonly allowance: Allowance;
  readonly maxSamples: number;
}

interface Parts extends CompareLimits {
  readonly maker: FeedMaker;
}

/**
 * Takes the samples to the end of the client's side. Every one is checked as it comes, images decoded, so that a bad one is told before
 * anything is measured. Throws INVALID_ARGUMENT naming the sample, RESOURCE_EXHAUSTED beyond the limits.
 */
export async function receiveSamples(
  { maker, allowance, maxSamples }: Parts,
  served: readonly ServedClassifier[],
  incoming: AsyncIterable<CompareRequest>,
  signal: AbortSignal,
): Promise<Held<HeldBatch>> {
  const inputs: Input[] = [];
  const labels: number[] = [];
  const { take, release } = allowance.open();
  try {
    for await (const { sample } of incoming) {
      const at = inputs.length;
      if (sample === undefined) throw invalid(`message ${at + 1} of Compare: expected a sample`);
      if (at >= maxSamples) {
        throw new HeartwoodError(
          'RESOURCE_EXHAUSTED',
          `more than the ${maxSamples} samples that a comparison may have`,
        );
      }
      const size = (sample.image ?? sample.pixels)?.byteLength ?? 0;
      take(size + overhead);
      const name = nameOf(sample, at);
      checkLabelled(sample, at, name, labels.length, served);
      const input = await inputOf(sample, name, maker, served, signal);
      if (at > 0 && 'image' in input !== 'image' in inputs[0]!) {
        throw invalid(`${name} is ${'image' in input ? 'an image' : 'pixels'}, those before it are not`);
      }
      inputs.push(input);
      if (sample.label !== undefined) labels.push(sample.label);
    }
    if (inputs.length === 0) throw invalid('no samples, expected at least one');
  } catch (thrown) {
    release();
    throw thrown;
  }
  const labelled = labels.length > 0;
  const { channels, height, width } = served[0]!.manifest.input;
  return {
    size: inputs.length,
    labelled,
    release,
    async read(samples) {
      const part = samples.map((sample) => inputs[sample]!);
      return {
        size: part.length,
        ...(labelled ? { labels: samples.map((sample) => labels[sample]!) } : {}),
        input: () => tensorOf(part, [channels, height, width]),
      };
    },
  };
}

function nameOf({ name }: CompareSample, at: number): string {
  return name === '' ? `sample ${at}` : `sample ${at} (${name.slice(0, longestName)})`;
}

function checkLabelled(
  { label }: CompareSample,
  at: number,
  name: string,
  labels: number,
  served: readonly ServedClassifier[],
): void {
  if (at > 0 && (label !== undefined) !== labels > 0) {
    throw invalid(`${name} has ${label === undefined ? 'no' : 'a'} label: expected labels for all samples or for none`);
  }
  if (label === undefined) return;
  for (const { manifest } of served) checkLabel(name, at, label, manifest.labels.length);
}

async function inputOf(
  { image, pixels }: CompareSample,
  name: string,
  maker: FeedMaker,
  served: readonly ServedClassifier[],
  signal: AbortSignal,
): Promise<Input> {
  if ((image === undefined) === (pixels === undefined)) throw invalid(`${name}: expected either an image or pixels`);
  const { manifest } = served[0]!;
  if (image !== undefined) {
    const { length } = await maker.preprocess(image, manifest.preprocessing, name, signal);
    const { channels, height, width } = manifest.input;
    const expected = channels * height * width;
    if (length !== expected) throw invalid(`${name}: ${length} values once preprocessed, expected ${expected}`);
    return { image };
  }
  for (const { manifest: each } of served) {
    const { channels, height, width } = each.input;
    const expected = 4 * channels * height * width;
    if (pixels!.byteLength !== expected) {
      throw invalid(
        `${name}: ${pixels!.byteLength} bytes of pixels, version ${each.version} expects ${expected}, float32 [${channels}, ${height}, ${width}]`,
      );
    }
  }
  // A copy: a view would have to begin at a multiple of four.
  const values = new Float32Array(Uint8Array.from(pixels!).buffer);
  const at = values.findIndex((value) => !Number.isFinite(value));
  if (at >= 0) throw invalid(`${name}: element ${at} of its pixels is ${values[at]}, expected finite numbers`);
  return { pixels: values };
}

function tensorOf(part: readonly Input[], shape: readonly number[]): WireTensor {
  if ('image' in part[0]!) {
    const data = part.map((input) => (input as { image: Uint8Array }).image);
    return { name: IMAGE, datatype: 'BYTES', dims: [part.length, 1], data };
  }
  const rows = part.map((input) => (input as { pixels: Float32Array }).pixels);
  const size = rows[0]!.length;
  const data = new Float32Array(rows.length * size);
  rows.forEach((row, at) => data.set(row, at * size));
  return { name: PIXELS, datatype: 'FP32', dims: [rows.length, ...shape], data };
}
