/** The methods of a server, and well-formed requests to them. */
import { HealthCheckRequest } from '../../../proto/gen/grpc/health/v1/health.js';
import { ServerReflectionRequest } from '../../../proto/gen/grpc/reflection/v1/reflection.js';
import {
  ClassifyRequest,
  CompareRequest,
  ListVersionsRequest,
  PromoteRequest,
} from '../../../proto/gen/heartwood/serving/v1/serving.js';
import {
  ModelConfigRequest,
  ModelInferRequest,
  ModelMetadataRequest,
  ModelReadyRequest,
  ModelStatisticsRequest,
  RepositoryIndexRequest,
  RepositoryModelLoadRequest,
  RepositoryModelUnloadRequest,
  ServerMetadataRequest,
} from '../../../proto/gen/open_inference_grpc.js';
import type { Draw } from './random.js';

/** The model whose answers are held against what they must be; nothing is to touch it. */
export const healthyModel = 'net';
/** A model that requests may load, unload and promote. */
export const spareModel = 'spare';
/** A vision transformer with token stages. */
export const transformer = 'vit';

export interface Method {
  readonly path: string;
  readonly stream: boolean;
  /** Has no end of its own. */
  readonly endless?: boolean;
  messages(draw: Draw): Uint8Array[];
}

const inference = (name: string): string => `/inference.GRPCInferenceService/${name}`;
const serving = (name: string): string => `/heartwood.serving.v1.ServingService/${name}`;

export const modelInfer = inference('ModelInfer');
export const modelStreamInfer = inference('ModelStreamInfer');
export const classify = serving('Classify');
export const compare = serving('Compare');

const side = 8;
const pixels = new Uint8Array(new Float32Array(3 * side * side).fill(0.5).buffer);

/** One image to the healthy model; each of its logits is the mean, 0.5. */
export function wellFormed(id = ''): ModelInferRequest {
  return ModelInferRequest.fromPartial({
    modelName: healthyModel,
    modelVersion: '1',
    id,
    inputs: [{ name: 'pixel_values', datatype: 'FP32', shape: [1n, 3n, BigInt(side), BigInt(side)] }],
    outputs: [{ name: 'logits' }],
    rawInputContents: [Buffer.from(pixels)],
  });
}

export const encodeInfer = (request: ModelInferRequest): Uint8Array => ModelInferRequest.encode(request).finish();

/** Of the methods, those that take requests for a name. */
const named = { name: healthyModel, version: '1' };

export function methods(image: Uint8Array): readonly Method[] {
  const unary = (path: string, bytes: () => Uint8Array): Method => ({
    path,
    stream: false,
    messages: () => [bytes()],
  });
  const frames = (draw: Draw): Uint8Array[] =>
    Array.from({ length: draw.integer(1, 4) }, (_, at) =>
      ClassifyRequest.encode(
        ClassifyRequest.fromPartial({
          settings: at === 0 ? { model: healthyModel, topK: 2, latestOnly: draw.chance(0.3) } : undefined,
          frame: { id: String(at), image: Buffer.from(image) },
        }),
      ).finish(),
    );
  const samples = (draw: Draw): Uint8Array[] => {
    const settings = { model: healthyModel, versions: [1n, 2n], warmup: 1, batch: draw.integer(1, 2) };
    const first = CompareRequest.encode(CompareRequest.fromPartial({ settings })).finish();
    const sample = { pixels: Buffer.from(pixels), label: 1, name: 'a sample' };
    const others = Array.from({ length: draw.integer(1, 3) }, () =>
      CompareRequest.encode(CompareRequest.fromPartial({ sample })).finish(),
    );
    return [first, ...others];
  };
  return [
    unary(modelInfer, () => encodeInfer(wellFormed())),
    unary(inference('ServerLive'), () => new Uint8Array()),
    unary(inference('ServerMetadata'), () => ServerMetadataRequest.encode(ServerMetadataRequest.create()).finish()),
    unary(inference('ModelReady'), () => ModelReadyRequest.encode(ModelReadyRequest.create(named)).finish()),
    unary(inference('ModelMetadata'), () => ModelMetadataRequest.encode(ModelMetadataRequest.create(named)).finish()),
    unary(inference('ModelConfig'), () => ModelConfigRequest.encode(ModelConfigRequest.create(named)).finish()),
    unary(inference('ModelStatistics'), () =>
      ModelStatisticsRequest.encode(ModelStatisticsRequest.create(named)).finish(),
    ),
    unary(inference('RepositoryIndex'), () => RepositoryIndexRequest.encode(RepositoryIndexRequest.create()).finish()),
    unary(inference('RepositoryModelLoad'), () =>
      RepositoryModelLoadRequest.encode(RepositoryModelLoadRequest.fromPartial({ modelName: spareModel })).finish(),
    ),
    unary(inference('RepositoryModelUnload'), () =>
      RepositoryModelUnloadRequest.encode(RepositoryModelUnloadRequest.fromPartial({ modelName: spareModel })).finish(),
    ),
    unary(inference('SystemSharedMemoryRegister'), () => new Uint8Array()),
    unary(inference('TraceSetting'), () => new Uint8Array()),
    unary(serving('ListVersions'), () =>
      ListVersionsRequest.encode(ListVersionsRequest.create({ model: healthyModel })).finish(),
    ),
    unary(serving('Promote'), () =>
      PromoteRequest.encode(PromoteRequest.create({ model: spareModel, version: 1n })).finish(),
    ),
    unary('/grpc.health.v1.Health/Check', () => HealthCheckRequest.encode({ service: '' }).finish()),
    {
      path: '/grpc.health.v1.Health/Watch',
      stream: false,
      endless: true,
      messages: () => [HealthCheckRequest.encode({ service: '' }).finish()],
    },
    {
      path: '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo',
      stream: true,
      messages: (draw) => {
        const asked = draw.pick([
          { listServices: '' },
          { fileContainingSymbol: 'inference.GRPCInferenceService' },
          { fileByFilename: 'open_inference_grpc.proto' },
          { allExtensionNumbersOfType: 'inference.ModelInferRequest' },
        ]);
        return [ServerReflectionRequest.encode(ServerReflectionRequest.fromPartial(asked)).finish()];
      },
    },
    {
      path: modelStreamInfer,
      stream: true,
      messages: (draw) => Array.from({ length: draw.integer(1, 5) }, (_, at) => encodeInfer(wellFormed(String(at)))),
    },
    { path: classify, stream: true, messages: frames },
    { path: compare, stream: true, messages: samples },
  ];
}
