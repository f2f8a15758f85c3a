/** Entry of a worker, thread or process: holds ONNX Runtime sessions and answers one request at a time (a run blocks its thread). */
import { env, InferenceSession, Tensor } from 'onnxruntime-node';
import { hostPort } from './host-port.js';
import type { SessionSettings, WorkerReply, WorkerRequest } from './messages.js';
import { isElementType, packTensors, type TensorInfo, type TensorValue } from './tensor.js';

const sessions = new Map<number, { session: InferenceSession; profiled: boolean }>();

/** Errors reach the caller as exceptions, so ONNX Runtime's own lines on stderr would only repeat them. */
const fatalOnly = 4;
// Also of what is no session's, such as its allocators.
env.logLevel = 'fatal';

function onnxOptions(settings: SessionSettings): InferenceSession.SessionOptions {
  return {
    executionProviders: [...settings.providers],
    graphOptimizationLevel: settings.optimization,
    intraOpNumThreads: settings.threads,
    interOpNumThreads: 1,
    logSeverityLevel: fatalOnly,
    ...(settings.profile === undefined ? {} : { enableProfiling: true, profileFilePrefix: settings.profile }),
    extra: {
      session: {
        disable_prepacking: settings.prepacking ? '0' : '1',
        intra_op: { allow_spinning: settings.spinning ? '1' : '0' },
      },
    },
  };
}

function describe(side: 'input' | 'output', metadata: readonly InferenceSession.ValueMetadata[]): TensorInfo[] {
  return metadata.map((value) => {
    if (!value.isTensor) throw new Error(`${side} ${value.name} is not a tensor`);
    if (!isElementType(value.type))
      throw new Error(`${side} ${value.name} has type ${value.type}, which is not supported`);
    return { name: value.name, type: value.type, shape: value.shape.map((dim) => dim ?? '') };
  });
}

async function load(id: number, model: string | Uint8Array, settings: SessionSettings): Promise<WorkerReply> {
  const options = onnxOptions(settings);
  const session = await (typeof model === 'string'
    ? InferenceSession.create(model, options)
    : InferenceSession.create(model, options));
  try {
    const inputs = describe('input', session.inputMetadata);
    const outputs = describe('output', session.outputMetadata);
    sessions.set(id, { session, profiled: settings.profile !== undefined });
    return { kind: 'loaded', inputs, outputs };
  } catch (thrown) {
    await session.release();
    throw thrown;
  }
}

async function run(request: WorkerRequest & { kind: 'run' }): Promise<{ reply: WorkerReply; transfer: ArrayBuffer[] }> {
  const held = sessions.get(request.session);
  if (held === undefined) throw new Error('the session is not loaded');
  const feeds: Record<string, Tensor> = {};
  for (const [name, { type, dims, data }] of Object.entries(request.feeds)) {
    feeds[name] = new Tensor(type as Tensor.Type, data, dims);
  }
  const started = performance.now();
  const results = request.outputs ? await held.session.run(feeds, [...request.outputs]) : await held.session.run(feeds);
  const durationMs = performance.now() - started;
  const values: Record<string, TensorValue> = {};
  for (const [name, tensor] of Object.entries(results)) {
    values[name] = {
      type: tensor.type as TensorValue['type'],
      dims: [...tensor.dims],
      data: tensor.data as TensorValue['data'],
    };
  }
  const { packed, transfer } = packTensors(values, true);
  return { reply: { kind: 'result', outputs: packed, durationMs }, transfer };
}

async function dispose(id: number): Promise<void> {
  const held = sessions.get(id);
  sessions.delete(id);
  if (held?.profiled) held.session.endProfiling();
  await held?.session.release();
}

async function answer(request: WorkerRequest): Promise<{ reply: WorkerReply; transfer?: ArrayBuffer[] }> {
  try {
    switch (request.kind) {
      case 'load':
        return { reply: await load(request.session, request.model, request.options) };
      case 'run':
        return await run(request);
      case 'dispose':
        await dispose(request.session);
        return { reply: { kind: 'done' } };
      case 'close':
        for (const id of [...sessions.keys()]) await dispose(id);
        return { reply: { kind: 'done' } };
    }
  } catch (thrown) {
    return { reply: { kind: 'failed', message: thrown instanceof Error ? thrown.message : String(thrown) } };
  }
}

const port = hostPort<WorkerRequest, WorkerReply>();
port.onMessage((request) => {
  void answer(request).then(({ reply, transfer }) => {
    port.post(reply, transfer ?? []);
    if (request.kind === 'close') port.close();
  });
});
