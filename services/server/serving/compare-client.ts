import type { Client } from 'nice-grpc';
import { internal } from '../../../libs/errors/error.js';
import type {
  CompareProgress,
  CompareRequest,
  CompareSample,
  DeepPartial,
  ServingServiceDefinition,
} from '../../../proto/gen/heartwood/serving/v1/serving.js';
import type { ComparisonSettings } from '../comparison/lane.js';
import type { ComparisonResult } from '../comparison/result.js';
import { resultOf } from './compare-messages.js';

/** A comparison to be run by a server. */
export interface RemoteComparison extends ComparisonSettings {
  readonly model: string;
  /** The first is what the others are set against; empty: all that are ready. */
  readonly versions: readonly number[];
  /** Nats per sample, for the versions that have a budget. */
  readonly budget?: number | undefined;
  /** Of a language model: tokens that are generated for each prompt, and tokens of a text that are the prompt. */
  readonly maxTokens?: number | undefined;
  readonly promptTokens?: number | undefined;
}

/** A sample as it is sent: an encoded image, preprocessed pixels [C, H, W], or the beginning of a text. */
export interface RemoteSample {
  readonly input: { readonly image: Uint8Array } | { readonly pixels: Float32Array } | { readonly text: string };
  readonly label: number | undefined;
  /** What an error calls it. */
  readonly name: string;
}

/** Sends the samples and waits for the result. Throws what the server answers, as nice-grpc does. */
export async function compareRemotely(
  serving: Client<ServingServiceDefinition>,
  comparison: RemoteComparison,
  samples: AsyncIterable<RemoteSample>,
  options: { readonly signal?: AbortSignal | undefined; progress?(progress: CompareProgress): void },
): Promise<ComparisonResult> {
  let failure: { error: unknown } | undefined;
  const requests = messages(comparison, samples, (error) => (failure = { error }));
  const { signal, progress } = options;
  try {
    for await (const answer of serving.compare(requests, signal ? { signal } : {})) {
      if (answer.progress) progress?.(answer.progress);
      if (answer.result) return resultOf(answer.result);
    }
  } catch (thrown) {
    // Samples that cannot be read end the call, and are what it failed by.
    throw failure ? failure.error : thrown;
  }
  throw internal('the server ended the comparison without a result');
}

async function* messages(
  { model, versions, batch, concurrency, warmup, budget, maxTokens, promptTokens, seed, confidence }: RemoteComparison,
  samples: AsyncIterable<RemoteSample>,
  failed: (error: unknown) => void,
): AsyncGenerator<DeepPartial<CompareRequest>> {
  yield {
    settings: {
      model,
      versions: versions.map(BigInt),
      batch,
      concurrency,
      warmup,
      ...(budget === undefined ? {} : { budget }),
      maxTokens,
      promptTokens,
      seed: BigInt(seed),
      confidence,
    },
  };
  try {
    for await (const { input, label, name } of samples) {
      yield { sample: { ...contentOf(input), name, ...(label === undefined ? {} : { label }) } };
    }
  } catch (thrown) {
    failed(thrown);
    throw thrown;
  }
}

function contentOf(input: RemoteSample['input']): DeepPartial<CompareSample> {
  if ('text' in input) return { text: input.text };
  return 'image' in input ? { image: Buffer.from(input.image) } : { pixels: bytesOf(input.pixels) };
}

/** Little-endian, as every machine is that runs this. */
function bytesOf({ buffer, byteOffset, byteLength }: Float32Array): Buffer {
  return Buffer.from(buffer as ArrayBuffer, byteOffset, byteLength);
}
