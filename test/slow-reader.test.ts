/** Clients that ask and do not read, against a server of its own process: what it holds for them is bounded. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { GraphBuilder } from '../libs/onnx/builder.js';
import { add, reshape } from '../libs/onnx/ops/index.js';
import { ModelInferRequest } from '../proto/gen/open_inference_grpc.js';
import { framed, rawClient } from '../services/grpc/testing/raw-client.js';
import { connectInference } from '../services/server/client.js';
import { publishGraph } from '../services/server/testing/fixture-models.js';
import { temporaryRepository } from '../services/server/testing/temporary-repository.js';
import { connectionWindow } from '../services/grpc/windows.js';

const side = 224;
const values = 3 * side * side;
const megabytes = 2 ** 20;

/** A model whose answers are as large as its requests: 600 KB a sample. */
function wideModel() {
  const g = new GraphBuilder('wide');
  const pixels = g.input('pixel_values', 'float32', ['B', 3, side, side]);
  return g.build([g.named('logits', reshape(g, add(g, pixels, 1), ['B', values]))]);
}

test('streams and calls whose answers nobody reads cost a bounded amount of memory', async () => {
  const { repository, remove } = await temporaryRepository();
  await publishGraph(repository, 'wide', wideModel());
  const main = fileURLToPath(new URL('../services/cli/main.js', import.meta.url));
  const flags = ['--host', '127.0.0.1', '--port', '0', '--metrics-port', '0', '--threads', '1'];
  // Few calls, so that the bound is reached within the test; a stream's window is 8 requests.
  const limits = ['--max-calls', '40', '--max-held-bytes', String(64 * megabytes)];
  const arguments_ = [main, 'serve', '--repository', repository.directory, ...flags, ...limits];
  const child = spawn(process.execPath, arguments_, { stdio: ['ignore', 'ignore', 'pipe'] });
  const exited = once(child, 'exit');
  try {
    const ready = await new Promise<{ grpcPort: number; metricsPort: number }>((resolve, reject) => {
      createInterface({ input: child.stderr }).on('line', (text) => {
        if (text.includes('"event":"ready"')) resolve(JSON.parse(text) as { grpcPort: number; metricsPort: number });
      });
      void exited.then(() => reject(new Error('the server ended')));
    });
    const address = `127.0.0.1:${ready.grpcPort}`;
    const series = async (name: string): Promise<number> => {
      const text = await (await fetch(`http://127.0.0.1:${ready.metricsPort}/metrics`)).text();
      return Number(
        text
          .split('\n')
          .find((line) => line.startsWith(`${name} `))
          ?.split(' ')
          .at(-1) ?? 0,
      );
    };
    const memory = () => series('process_resident_memory_bytes');
    const client = connectInference(address);
    const dims = [1, 3, side, side];
    const ask = () => client.infer({ model: 'wide', pixels: { dims, data: new Float32Array(values) } });
    for (let i = 0; i < 50; i++) await ask();
    const before = await memory();

    const request = ModelInferRequest.fromPartial({
      modelName: 'wide',
      inputs: [{ name: 'pixel_values', datatype: 'FP32', shape: dims.map(BigInt) }],
      rawInputContents: [Buffer.alloc(values * 4)],
    });
    const message = framed(ModelInferRequest.encode(request).finish());
    // A connection each: on one, a stream that is held back holds back those beside it.
    const deaf = await Promise.all(Array.from({ length: 9 }, () => rawClient(address, 0)));
    // 8 streams that would take 300 requests each, 1.4 GB in all, and 200 calls besides.
    const done = new AbortController();
    let sent = 0;
    const pumps = deaf.slice(1).map(async ({ open }) => {
      const stream = open('/inference.GRPCInferenceService/ModelStreamInfer');
      for (let i = 0; i < 300; i++, sent++) {
        if (!stream.write(message)) await once(stream, 'drain', { signal: done.signal });
      }
    });
    const ended = Promise.allSettled(pumps);
    const taken = (method: string, type: string) =>
      series(
        `grpc_server_msg_received_total{grpc_type="${type}",grpc_service="inference.GRPCInferenceService",grpc_method="${method}"}`,
      );
    while ((await taken('ModelStreamInfer', 'bidi_stream')) < 8 * 4) await ask().catch(() => undefined);
    for (let i = 0; i < 200; i++) deaf[0]!.open('/inference.GRPCInferenceService/ModelInfer').end(message);
    const refused =
      'grpc_server_handled_total{grpc_type="unary",grpc_service="inference.GRPCInferenceService",grpc_method="ModelInfer",grpc_code="ResourceExhausted"}';
    while ((await series(refused)) < 160) await ask().catch(() => undefined);
    let peak = 0;
    for (let last = -1; last !== sent;) {
      last = sent;
      for (let i = 0; i < 20; i++) await ask().catch(() => undefined);
      peak = Math.max(peak, await memory());
    }
    assert.ok(sent < 8 * 300, 'every request of the streams was taken');
    // Requests and answers of 40 calls at 600 KB, 8 windows of 8 of them, and as much again for what the collector has not seen.
    // The last part is what nine connections may send ahead, once in the window and once on its way out.
    const bound = 2 * 2 * 1.2 * values * 4 * (40 + 64) + 2 * 9 * connectionWindow;
    assert.ok(
      peak - before < bound,
      `grew by ${((peak - before) / megabytes).toFixed(0)} MB, bound ${bound / megabytes}`,
    );
    done.abort();
    deaf.forEach(({ close }) => close());
    await ended;
    // Once they have gone the server is free again.
    while (
      !(await ask().then(
        () => true,
        () => false,
      ))
    );
    client.close();
  } finally {
    child.kill('SIGTERM');
    const [code] = (await exited) as [number | null];
    await remove();
    assert.equal(code, 0);
  }
});
