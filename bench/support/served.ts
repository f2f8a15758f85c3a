/** Processes that a benchmark of the server talks to, and what it says to them. */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { connectInference } from '../../services/server/client.js';
import { startChild, type Child } from '../../services/cli/demo/child.js';
import { imagesOf } from './random-stages.js';
import { ModelInferRequest } from '../../proto/gen/open_inference_grpc.js';

export const inferPath = '/inference.GRPCInferenceService/ModelInfer';

export interface ServedProcess {
  readonly address: string;
  /** The sum of a metric's series whose text begins so; undefined where there is none. */
  metric(series: string): Promise<number | undefined>;
  /** Each of several, as `metric`, at one moment. */
  metrics(series: readonly string[]): Promise<(number | undefined)[]>;
  stop(): Promise<void>;
}

/** `heartwood serve` over a repository, once all versions of `models` are loaded. */
export async function startServed(
  repository: string,
  models: readonly { readonly name: string; readonly versions: readonly number[] }[],
  options: readonly string[] = [],
): Promise<ServedProcess> {
  const local = ['--repository', repository, '--host', '127.0.0.1', '--port', '0', '--metrics-port', '0'];
  const child: Child = await startChild('serve', [...local, ...options], new AbortController().signal);
  const address = `127.0.0.1:${child.grpcPort}`;
  const client = connectInference(address);
  for (const { name, versions } of models) {
    for (const version of versions) {
      if (!(await client.modelReady(name, version))) throw new Error(`${name} ${version} is not loaded`);
    }
  }
  client.close();
  const metrics: ServedProcess['metrics'] = async (series) => {
    const text = await (await fetch(`http://127.0.0.1:${child.metricsPort}/metrics`)).text();
    return series.map((begins) => sumOf(text, begins));
  };
  return {
    address,
    metric: async (series) => (await metrics([series]))[0],
    metrics,
    stop: () => child.stop(),
  };
}

function sumOf(text: string, begins: string): number | undefined {
  const values = text
    .split('\n')
    .filter((line) => line.startsWith(begins))
    .map((line) => Number(line.slice(line.lastIndexOf(' ') + 1)));
  return values.length === 0 ? undefined : values.reduce((sum, value) => sum + value, 0);
}

/** A bare gRPC server in a process of its own. */
export async function startBare(): Promise<{ address: string; stop(): void }> {
  const entry = fileURLToPath(new URL('./bare-server.js', import.meta.url));
  const child = spawn(process.execPath, [entry], { stdio: ['pipe', 'pipe', 'inherit'] });
  for await (const line of createInterface({ input: child.stdout })) {
    return { address: `127.0.0.1:${line}`, stop: () => void child.kill() };
  }
  throw new Error('the bare server ended before it said its port');
}

/** A request of images as the benchmarks have them [batch, 3, side, side], as bytes. */
export function pixelRequest(model: string, version: number, batch: number, side: number, seed = 1): Buffer {
  const pixels = imagesOf(batch, side, seed).data as Float32Array;
  const request = ModelInferRequest.fromPartial({
    modelName: model,
    modelVersion: String(version),
    inputs: [{ name: 'pixel_values', datatype: 'FP32', shape: [batch, 3, side, side].map(BigInt) }],
    rawInputContents: [Buffer.from(pixels.buffer)],
  });
  return Buffer.from(ModelInferRequest.encode(request).finish());
}

/** Keeps `concurrency` calls under way until `count` are done; the milliseconds of each, and of all together. */
export async function closedLoop(
  concurrency: number,
  count: number,
  call: (index: number) => Promise<{ ms: number; code: number }>,
): Promise<{ latencies: number[]; wallMs: number }> {
  const latencies: number[] = [];
  let next = 0;
  const begun = performance.now();
  const lane = async (): Promise<void> => {
    while (next < count) {
      const { ms, code } = await call(next++);
      if (code !== 0) throw new Error(`a call ended with code ${code}`);
      latencies.push(ms);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, lane));
  return { latencies, wallMs: performance.now() - begun };
}
