import { type CallContext, Status } from 'nice-grpc';
import { checkName } from '../../../libs/store/names.js';
import type { TensorInfo } from '../../../libs/runtime/tensor.js';
import type {
  GRPCInferenceServiceImplementation,
  InferParameter,
  ModelConfigRequest,
  ModelInferRequest,
  ModelMetadataRequest,
  ModelReadyRequest,
  ModelStatisticsRequest,
  ModelStreamInferResponse,
  RepositoryIndexRequest,
  RepositoryModelLoadRequest,
  RepositoryModelUnloadRequest,
} from '../../../proto/gen/open_inference_grpc.js';
import { toServerError } from '../../grpc/errors.js';
import type { Catalog } from '../catalog/catalog.js';
import type { Inference } from '../inference/inference.js';
import { TRACEPARENT } from '../inference/trace.js';
import { callOf, responseOf } from './messages.js';
import { answerInOrder } from './ordered-stream.js';
import { IMAGE, PIXELS, type ServedVersion } from '../catalog/served-version.js';
import { modelConfig, type ServingFacts } from './model-config.js';
import { notServed } from './not-served.js';
import { loadModel, repositoryIndex, unloadModel } from './repository-calls.js';
import type { InferenceStatistics } from './statistics.js';
import { datatypeOf } from './tensor-codec.js';

export interface OpenInferenceParts {
  readonly catalog: Catalog;
  readonly inference: Inference;
  readonly statistics: InferenceStatistics;
  readonly facts: ServingFacts;
  readonly version: string;
  readonly streamWindow: number;
  /** Whether requests are taken now. */
  ready(): boolean;
  /** Aborts when the server is about to stop. */
  readonly stopping: AbortSignal;
  /** Told of defects of our own that became a stream's error_message. */
  report(error: unknown, method: string): void;
}

/** Triton's names of the extensions that work here. */
const extensions = [
  'classification',
  'model_configuration',
  'model_repository',
  'schedule_policy',
  'statistics',
  'parameters',
] as const;

/** Of every answer in a stream: a request has one. */
const finalResponse: Record<string, InferParameter> = { triton_final_response: { boolParam: true } };

/** The calls of the Open Inference Protocol. */
export function openInference(parts: OpenInferenceParts): GRPCInferenceServiceImplementation {
  const { catalog, inference } = parts;
  return {
    serverLive: () => Promise.resolve({ live: true }),
    serverReady: () => Promise.resolve({ ready: parts.ready() }),
    modelReady: (request: ModelReadyRequest) => Promise.resolve().then(() => ({ ready: isReady(catalog, request) })),
    serverMetadata: () => Promise.resolve({ name: 'heartwood', version: parts.version, extensions: [...extensions] }),
    modelMetadata: (request: ModelMetadataRequest) => Promise.resolve().then(() => metadata(catalog, request)),
    modelConfig: ({ name, version }: ModelConfigRequest) =>
      Promise.resolve().then(() => ({ config: modelConfig(catalog.resolve(name, version), parts.facts) })),
    modelStatistics: (request: ModelStatisticsRequest) =>
      Promise.resolve().then(() => ({
        modelStats: versionsMeant(catalog, request).map((served) => parts.statistics.of(served)),
      })),
    repositoryIndex: (request: RepositoryIndexRequest) => repositoryIndex(catalog, request),
    repositoryModelLoad: (request: RepositoryModelLoadRequest) => loadModel(catalog, request),
    repositoryModelUnload: (request: RepositoryModelUnloadRequest) => unloadModel(catalog, request),
    ...notServed,
    modelInfer: (request: ModelInferRequest, { signal, metadata }: CallContext) =>
      inference.infer(callOf(request, metadata.get(TRACEPARENT)), signal, (answer) => responseOf(request, answer)),
    modelStreamInfer: (requests: AsyncIterable<ModelInferRequest>, { signal, metadata }: CallContext) => {
      const traceparent = metadata.get(TRACEPARENT);
      const answer = (request: ModelInferRequest): Promise<ModelStreamInferResponse> =>
        inference
          .infer(callOf(request, traceparent), signal, (answer) => responseOf(request, answer))
          .then(
            (inferResponse) => ({ errorMessage: '', inferResponse: { ...inferResponse, parameters: finalResponse } }),
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
    parameters: finalResponse,
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

/** The loaded versions that a request for statistics means. Throws as `resolve` where it names one. */
function versionsMeant(catalog: Catalog, { name, version }: ModelStatisticsRequest): ServedVersion[] {
  if (version !== '') return [catalog.resolve(name, version)];
  // A model of which nothing is loaded says why.
  if (name !== '') catalog.resolve(name, '');
  return catalog
    .list()
    .flatMap(({ model, state }) => (state.kind === 'ready' && (name === '' || model === name) ? [state.served] : []));
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
