/** A client of the Open Inference Protocol for served classifiers, used by the commands that talk to a server. */
import { ClientError } from 'nice-grpc';
import { elementCount, type TensorValue, type TypedData } from '../../libs/runtime/tensor.js';
import { HeartwoodError, internal } from '../../libs/errors/error.js';
import { type ModelVersion, ServingServiceDefinition } from '../../proto/gen/heartwood/serving/v1/serving.js';
import {
  GRPCInferenceServiceDefinition,
  type ModelInferRequest,
  type ModelInferResponse,
  type ModelMetadataResponse,
} from '../../proto/gen/open_inference_grpc.js';
import { type ConnectionOptions, openChannel } from '../grpc/channel.js';
import { fromStatus, isAbort } from '../grpc/errors.js';
import { toTensorValue } from './inference/wire-tensor.js';
import type { ComparisonResult } from './comparison/result.js';
import { compareRemotely, type RemoteComparison, type RemoteSample } from './serving/compare-client.js';
import type { TextSource } from './inference/text-source.js';
import { generateRemotely } from './serving/generate-client.js';
import { decodeInput, encodeOutput, joinBytes } from './open-inference/tensor-codec.js';

export interface InferenceRequest {
  readonly model: string;
  /** Default: the version that the server has as its default. */
  readonly version?: number;
  /** Comes back with the answer. */
  readonly id?: string;
  /** Encoded images, which the server preprocesses; or */
  readonly images?: readonly Uint8Array[];
  /** preprocessed pixels, float32 [B, C, H, W]. */
  readonly pixels?: { readonly dims: readonly number[]; readonly data: Float32Array };
  /** Nats per sample, for all samples or for each. Default: the version's. */
  readonly budget?: number | Float32Array;
  /** Default: all. */
  readonly outputs?: readonly string[];
}

export interface InferenceAnswer {
  readonly model: string;
  readonly version: number;
  readonly id: string;
  readonly outputs: Readonly<Record<string, TensorValue>>;
}

/** In a stream, a request that failed; the stream goes on. */
export interface InferenceFailure {
  readonly model: string;
  readonly id: string;
  readonly error: string;
}

/** Every call throws the server's error as a HeartwoodError with the same code, UNAVAILABLE when there is no server. */
export interface InferenceClient extends TextSource {
  /** Resolves when the server takes requests, tried until the deadline. Throws UNAVAILABLE at it. */
  waitUntilReady(deadlineMs: number): Promise<void>;
  modelReady(model: string, version?: number): Promise<boolean>;
  modelMetadata(model: string, version?: number): Promise<ModelMetadataResponse>;
  infer(request: InferenceRequest, signal?: AbortSignal): Promise<InferenceAnswer>;
  /** Answers in the order of the requests. */
  stream(
    requests: AsyncIterable<InferenceRequest>,
    signal?: AbortSignal,
  ): AsyncIterable<InferenceAnswer | InferenceFailure>;
  /** The versions as the server sees them; of all models without a name. */
  listVersions(model?: string): Promise<ModelVersion[]>;
  /** Pins a version; 0 takes the pin away. */
  promote(model: string, version: number): Promise<void>;
  /** Has the server compare versions on these samples; see `compareRemotely`. */
  compare(
    comparison: RemoteComparison,
    samples: AsyncIterable<RemoteSample>,
    options: Parameters<typeof compareRemotely>[3],
  ): Promise<ComparisonResult>;
  close(): void;
}

/**
 * @param address host:port, or https://host:port
 * @throws HeartwoodError INVALID_ARGUMENT naming a file of the options that is no good
 */
export function connectInference(address: string, connection: ConnectionOptions = {}): InferenceClient {
  const { channel, clients } = openChannel(address, connection);
  const inference = clients.create(GRPCInferenceServiceDefinition, channel);
  const serving = clients.create(ServingServiceDefinition, channel);
  const versionOf = (version: number | undefined): string => (version === undefined ? '' : String(version));
  const options = (signal: AbortSignal | undefined) => (signal ? { signal } : {});
  return {
    waitUntilReady: (deadlineMs) => waitUntilReady(() => inference.serverReady({}), deadlineMs),
    modelReady: (model, version) =>
      mapped(async () => (await inference.modelReady({ name: model, version: versionOf(version) })).ready),
    modelMetadata: (model, version) =>
      mapped(() => inference.modelMetadata({ name: model, version: versionOf(version) })),
    infer: (request, signal) =>
      mapped(async () => answerOf(await inference.modelInfer(messageOf(request), options(signal)))),
    async *stream(requests, signal) {
      try {
        for await (const { errorMessage, inferResponse } of inference.modelStreamInfer(
          messages(requests),
          options(signal),
        )) {
          if (inferResponse === undefined) throw internal('the server answered a stream with an empty message');
          yield errorMessage === ''
            ? answerOf(inferResponse)
            : { model: inferResponse.modelName, id: inferResponse.id, error: errorMessage };
        }
      } catch (thrown) {
        throw asHeartwoodError(thrown);
      }
    },
    listVersions: (model = '') => mapped(async () => (await serving.listVersions({ model })).versions),
    promote: (model, version) => mapped(async () => void (await serving.promote({ model, version: BigInt(version) }))),
    compare: (...asked) => mapped(() => compareRemotely(serving, ...asked)),
    async *generate(asked, signal) {
      try {
        yield* generateRemotely(serving, asked, signal);
      } catch (thrown) {
        throw asHeartwoodError(thrown);
      }
    },
    close: () => channel.close(),
  };
}

async function waitUntilReady(ask: () => Promise<{ ready: boolean }>, deadlineMs: number): Promise<void> {
  const end = performance.now() + deadlineMs;
  for (let pause = 20; ; pause = Math.min(500, pause * 2)) {
    let reason = 'it is not ready';
    try {
      if ((await ask()).ready) return;
    } catch (thrown) {
      reason = asHeartwoodError(thrown).message;
    }
    if (performance.now() + pause > end) {
      throw new HeartwoodError('UNAVAILABLE', `the server did not become ready within ${deadlineMs} ms: ${reason}`);
    }
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

async function* messages(requests: AsyncIterable<InferenceRequest>): AsyncGenerator<ModelInferRequest> {
  for await (const request of requests) yield messageOf(request);
}

/** A request as the protocol writes it, contents raw. */
function messageOf(request: InferenceRequest): ModelInferRequest {
  const { images, pixels, budget } = request;
  const tensors: { tensor: { name: string; datatype: string; shape: bigint[] }; raw: Buffer }[] = [];
  if (pixels) tensors.push(encodeOutput('pixel_values', { type: 'float32', ...pixels }));
  if (images) {
    const tensor = { name: 'image', datatype: 'BYTES', shape: [BigInt(images.length), 1n] };
    tensors.push({ tensor, raw: joinBytes(images) });
  }
  if (budget instanceof Float32Array) {
    tensors.push(encodeOutput('budget', { type: 'float32', dims: [budget.length, 1], data: budget }));
  }
  return {
    modelName: request.model,
    modelVersion: request.version === undefined ? '' : String(request.version),
    id: request.id ?? '',
    parameters: typeof budget === 'number' ? { budget: { doubleParam: budget } } : {},
    inputs: tensors.map(({ tensor }) => ({ ...tensor, parameters: {}, contents: undefined })),
    outputs: (request.outputs ?? []).map((name) => ({ name, parameters: {} })),
    rawInputContents: tensors.map(({ raw }) => raw),
  };
}

function answerOf(response: ModelInferResponse): InferenceAnswer {
  const outputs: Record<string, TensorValue> = {};
  for (const [index, output] of response.outputs.entries()) {
    outputs[output.name] = toTensorValue(decodeInput(output, response.rawOutputContents[index]));
  }
  return { model: response.modelName, version: Number(response.modelVersion), id: response.id, outputs };
}

async function mapped<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (thrown) {
    throw asHeartwoodError(thrown);
  }
}

function asHeartwoodError(thrown: unknown): HeartwoodError {
  if (thrown instanceof HeartwoodError) return thrown;
  if (thrown instanceof ClientError) return fromStatus(thrown.code, thrown.details, thrown);
  if (isAbort(thrown)) return new HeartwoodError('CANCELLED', 'the call was cancelled', { cause: thrown });
  return internal(`the call failed: ${String(thrown)}`, thrown);
}

/** Row `index` of a [B, …] output. */
export function rowOf({ dims, data }: TensorValue, index: number): TypedData {
  const size = elementCount(dims.slice(1));
  return data.slice(index * size, (index + 1) * size);
}
