import { type CallContext, Status } from 'nice-grpc';
import { checkName } from '../../../libs/store/names.js';
import type { TensorInfo } from '../../../libs/runtime/tensor.js';
import type {
  GRPCInferenceServiceImplementation,
  ModelInferRequest,
  ModelMetadataRequest,
  ModelReadyRequest,
  ModelStreamInferResponse,
} from '../../../proto/gen/open_inference_grpc.js';
import { toServerError } from '../../grpc/errors.js';
import type { Catalog } from '../catalog/catalog.js';
import type { Inference } from '../inference/inference.js';
import { callOf, responseOf } from './messages.js';
import { answerInOrder } from './ordered-stream.js';
import { IMAGE, PIXELS } from '../catalog/served-version.js';
import { datatypeOf } from './tensor-codec.js';

export interface OpenInferenceParts {
  readonly catalog: Catalog;
  readonly inference: Inference;
  readonly version: string;
  readonly streamWindow: number;
  /** Whether requests are taken now. */
  ready(): boolean;
  /** Aborts when the server is about to stop. */
  readonly stopping: AbortSignal;
  /** Told of defects of our own that became a stream's error_message. */
  report(error: unknown, method: string): void;
}

/** The calls of the Open Inference Protocol. */
export function openInference(parts: OpenInferenceParts): GRPCInferenceServiceImplementation {
  const { catalog, inference } = parts;
  return {
    serverLive: () => Promise.resolve({ live: true }),
    serverReady: () => Promise.resolve({ ready: parts.ready() }),
    modelReady: (request: ModelReadyRequest) => Promise.resolve().then(() => ({ ready: isReady(catalog, request) })),
    serverMetadata: () => Promise.resolve({ name: 'heartwood', version: parts.version, extensions: [] }),
    modelMetadata: (request: ModelMetadataRequest) => Promise.resolve().then(() => metadata(catalog, request)),
    modelInfer: (request: ModelInferRequest, { signal }: CallContext) =>
      inference.infer(callOf(request), signal, (answer) => responseOf(request, answer)),
    modelStreamInfer: (requests: AsyncIterable<ModelInferRequest>, { signal }: CallContext) => {
      const answer = (request: ModelInferRequest): Promise<ModelStreamInferResponse> =>
        inference
          .infer(callOf(request), signal, (answer) => responseOf(request, answer))
          .then(
            (inferResponse) => ({ errorMessage: '', inferResponse }),
            (thrown: unknown) => streamError(parts, request, thrown),
          );
      return answerInOrder(requests, parts.streamWindow, answer, parts.stopping);
    },
  };
}

/** A failed request of a stream answers in its place, and the stream lives on. */
function streamError(parts: OpenInferenceParts, request: ModelInferRequest, thrown: unknown): ModelStreamInferResponse {
  const error = toServerError(thrown);
  if (error.code === Status.INTERNAL) parts.report(thrown, 'ModelStreamInfer');
  const inferResponse = {
    modelName: request.modelName,
    modelVersion: request.modelVersion,
    id: request.id,
    parameters: {},
    outputs: [],
    rawOutputContents: [],
  };
  return { errorMessage: error.details, inferResponse };
}

/** A name that is none is the caller's error; one that is not there is not ready. */
function isReady(catalog: Catalog, { name, version }: ModelReadyRequest): boolean {
  checkName(name);
  try {
    catalog.resolve(name, version);
    return true;
  } catch (thrown) {
    if ((thrown as { code?: unknown }).code === 'INVALID_ARGUMENT') throw thrown;
    return false;
  }
}

function metadata(catalog: Catalog, { name, version }: ModelMetadataRequest) {
  const served = catalog.resolve(name, version);
  const versions = catalog
    .list()
    .filter(({ model, state }) => model === name && state.kind === 'ready')
    .map(({ version: number }) => String(number));
  const inputs = served.inputs.map(describe);
  if (served.takes(PIXELS)) inputs.push({ name: IMAGE, datatype: 'BYTES', shape: [-1n, 1n] });
  return { name, versions, platform: 'onnxruntime_onnx', inputs, outputs: served.outputs.map(describe) };
}

function describe({ name, type, shape }: TensorInfo): { name: string; datatype: string; shape: bigint[] } {
  return { name, datatype: datatypeOf(type), shape: shape.map((dim) => (typeof dim === 'number' ? BigInt(dim) : -1n)) };
}
