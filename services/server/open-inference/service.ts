import { type CallContext, Status } from 'nice-grpc';
import { checkName } from '../../../libs/store/names.js';
import { release } from '../../../libs/runtime/release.js';
import type {
  GRPCInferenceServiceImplementation,
  InferParameter,
  ModelConfigRequest,
  ModelInferRequest,
  ModelInferResponse,
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
import { answerStream, type Reply } from './answer-stream.js';
import { textRequestOf } from './generation.js';
import { isClassifier, type ServedVersion } from '../catalog/served-version.js';
import type { Generation } from '../inference/generation.js';
import { internal } from '../../../libs/errors/error.js';
import { metadata } from './metadata.js';
import { modelConfig, type ServingFacts } from './model-config.js';
import { FINAL_RESPONSE } from './parameters.js';
import { notServed } from './not-served.js';
import { loadModel, repositoryIndex, unloadModel } from './repository-calls.js';
import type { InferenceStatistics } from './statistics.js';

export interface OpenInferenceParts {
  readonly catalog: Catalog;
  readonly inference: Inference;
  readonly generation: Generation;
  readonly statistics: InferenceStatistics;
  readonly facts: ServingFacts;
  readonly version: string;
  readonly streamWindow: number;
  /** Texts of one stream that are generated at a time. */
  readonly textWindow: number;
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

/** Of an answer in a stream that is its request's last, as a classifier's only one is. */
const finalResponse: Record<string, InferParameter> = { [FINAL_RESPONSE]: { boolParam: true } };

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
    modelInfer: (request: ModelInferRequest, { signal, metadata }: CallContext) => {
      const traceparent = metadata.get(TRACEPARENT);
      if (generatesText(catalog, request)) return onlyText(parts, request, traceparent, signal);
      return inference
        .infer(callOf(request, traceparent), signal, (answer) => responseOf(request, answer))
        .finally(() => releaseContents(request));
    },
    modelStreamInfer: (requests: AsyncIterable<ModelInferRequest>, { signal, metadata }: CallContext) => {
      const traceparent = metadata.get(TRACEPARENT);
      const handle = (request: ModelInferRequest): Reply<ModelStreamInferResponse> =>
        generatesText(catalog, request)
          ? { pieces: textOf(parts, request, traceparent, signal) }
          : { once: classification(parts, request, traceparent, signal) };
      return answerStream(requests, { once: parts.streamWindow, pieces: parts.textWindow }, handle, parts.stopping);
    },
  };
}

/** Whether a request is for a language model; one that names nothing that is loaded is told so on the other road. */
function generatesText(catalog: Catalog, { modelName, modelVersion }: ModelInferRequest): boolean {
  try {
    return !isClassifier(catalog.resolve(modelName, modelVersion));
  } catch {
    return false;
  }
}

async function classification(
  parts: OpenInferenceParts,
  request: ModelInferRequest,
  traceparent: string | undefined,
  signal: AbortSignal,
): Promise<ModelStreamInferResponse> {
  try {
    const inferResponse = await parts.inference.infer(callOf(request, traceparent), signal, (answer) =>
      responseOf(request, answer),
    );
    return { errorMessage: '', inferResponse: { ...inferResponse, parameters: finalResponse } };
  } catch (thrown) {
    return streamError(parts, request, thrown);
  } finally {
    releaseContents(request);
  }
}

/** The one answer to a request outside a stream. */
async function onlyText(
  { generation }: OpenInferenceParts,
  request: ModelInferRequest,
  traceparent: string | undefined,
  signal: AbortSignal,
): Promise<ModelInferResponse> {
  const { call, responses } = textRequestOf(request, 'alone', traceparent);
  for await (const response of generation.generate(call, signal, responses)) return response;
  throw internal(`the text of ${request.modelName} ended without an answer`);
}

async function* textOf(
  parts: OpenInferenceParts,
  request: ModelInferRequest,
  traceparent: string | undefined,
  signal: AbortSignal,
): AsyncGenerator<ModelStreamInferResponse, void, undefined> {
  const { call, responses } = textRequestOf(request, 'stream', traceparent);
  try {
    for await (const inferResponse of parts.generation.generate(call, signal, responses))
      yield { errorMessage: '', inferResponse };
  } catch (thrown) {
    yield streamError(parts, request, thrown);
  }
}

/** Of a request that has been answered: each message has memory of its own. */
function releaseContents({ rawInputContents }: ModelInferRequest): void {
  for (const contents of rawInputContents) release(contents);
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
