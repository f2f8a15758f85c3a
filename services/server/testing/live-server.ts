import assert from 'node:assert/strict';
import { type Channel, type Client, Status } from 'nice-grpc';
import type { Repository } from '../../../libs/store/repository.js';
import { createLogger, type Logger } from '../../../libs/telemetry/log.js';
import { createRegistry, type Registry } from '../../../libs/telemetry/metrics.js';
import {
  type DeepPartial,
  GRPCInferenceServiceDefinition,
  type ModelInferRequest,
} from '../../../proto/gen/open_inference_grpc.js';
import { type ConnectionOptions, openChannel } from '../../grpc/channel.js';
import { connectInference, type InferenceClient } from '../client.js';
import type { ServerOptions } from '../options.js';
import { startServer } from '../server.js';
import { budgetDraft, budgetModel, meanModel, publishGraph } from './fixture-models.js';
import { temporaryRepository } from './temporary-repository.js';

/** A server of this process over a temporary repository: model `net`, version 1 `meanModel`, version 2 `budgetModel`. */
export interface LiveServer {
  readonly repository: Repository;
  readonly grpcPort: number;
  readonly address: string;
  readonly channel: Channel;
  readonly metricsUrl: string;
  /** The generated client: it can say what a well-behaved one would not. */
  readonly raw: Client<GRPCInferenceServiceDefinition>;
  readonly client: InferenceClient;
  /** Calls a method of the service by any name, as a client of a newer protocol would. */
  call(name: string): Promise<unknown>;
  /** The text of /metrics. */
  metrics(): Promise<string>;
  /** The value of one series, 0 when it is absent. */
  metric(series: string): Promise<number>;
  stop(): Promise<void>;
}

/** Model `net`: version 1 `meanModel`, version 2 `budgetModel`. */
export async function publishNets(repository: Repository): Promise<void> {
  await publishGraph(repository, 'net', meanModel());
  await publishGraph(repository, 'net', budgetModel(), budgetDraft);
}

/**
 * @param connection how `raw` and `client` reach it
 * @param fill what the repository holds
 */
export async function liveServer(
  options: Partial<ServerOptions> = {},
  connection: ConnectionOptions = {},
  logger: Logger = createLogger('test', 'silent'),
  registry: Registry = createRegistry(),
  fill: (repository: Repository) => Promise<void> = publishNets,
): Promise<LiveServer> {
  const { repository, remove } = await temporaryRepository();
  await fill(repository);
  const server = await startServer(
    {
      repository: repository.directory,
      host: '127.0.0.1',
      port: 0,
      metricsPort: 0,
      threads: 1,
      pollMs: 20,
      maxBatch: 8,
      ...options,
    },
    logger,
    registry,
  );
  const address = `127.0.0.1:${server.grpcPort}`;
  const { channel, clients } = openChannel(address, connection);
  const client = connectInference(address, connection);
  const metricsUrl = `http://127.0.0.1:${server.metricsPort}/metrics`;
  const metrics = async (): Promise<string> => (await fetch(metricsUrl)).text();
  return {
    repository,
    grpcPort: server.grpcPort,
    metricsUrl,
    address,
    channel,
    raw: clients.create(GRPCInferenceServiceDefinition, channel),
    client,
    call: (name) => {
      const serverLive = { ...GRPCInferenceServiceDefinition.methods.serverLive, name };
      const definition = { ...GRPCInferenceServiceDefinition, methods: { serverLive } };
      return clients.create(definition, channel).serverLive({});
    },
    metrics,
    metric: async (series) => {
      const line = (await metrics()).split('\n').find((text) => text.startsWith(`${series} `));
      return Number(line?.slice(series.length + 1) ?? 0);
    },
    stop: async () => {
      channel.close();
      client.close();
      await server.stop();
      await remove();
    },
  };
}

const pixelCount = 3 * 8 * 8;

/** `batch` images of which channel c of image i is everywhere 10·i + c, so that `meanModel` answers just that. */
export function pixels(batch: number): { dims: number[]; data: Float32Array } {
  const value = (at: number) => 10 * Math.floor(at / pixelCount) + (Math.floor(at / 64) % 3);
  return { dims: [batch, 3, 8, 8], data: Float32Array.from({ length: batch * pixelCount }, (_, at) => value(at)) };
}

/** A request of `pixels` to model `net`, contents raw. */
export function rawRequest(batch: number, extra: DeepPartial<ModelInferRequest> = {}): DeepPartial<ModelInferRequest> {
  const { dims, data } = pixels(batch);
  return {
    modelName: 'net',
    inputs: [{ name: 'pixel_values', datatype: 'FP32', shape: dims.map(BigInt) }],
    rawInputContents: [Buffer.from(data.buffer)],
    ...extra,
  };
}

/** The call fails with this code and one line that fits `details`, without a trace of the code behind it. */
export function refused(call: Promise<unknown>, code: Status, details: RegExp): Promise<void> {
  return assert.rejects(call, (error: { code?: Status; details?: string }) => {
    assert.equal(Status[error.code ?? Status.OK], Status[code], error.details ?? '');
    assert.match(error.details ?? '', details);
    assert.doesNotMatch(error.details ?? '', /\n|node_modules|\.js:/);
    return true;
  });
}

/** Asks until it is so; the test's own time limit is the end. */
export async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 10));
}
