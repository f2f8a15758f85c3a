/** Entry of a worker, thread or process: holds ONNX Runtime sessions and answers one request at a time (a run blocks its thread). */
import { setImmediate as immediate } from 'node:timers/promises';
import { env, InferenceSession, listSupportedBackends, Tensor } from 'onnxruntime-node';
import { IN_PLACE } from '../onnx/ops/sequence.js';
import { hostPort } from './host-port.js';
import type {
  OutputTensor,
  SessionSettings,
  ViewReference,
  WorkerReply,
  WorkerRequest,
  WorkerTask,
} from './messages.js';
import { providers } from './providers/index.js';
import type { RelayModule } from './relay.js';
import { release } from './release.js';
import { ResidentStore } from './resident-store.js';
import {
  elementCount,
  isElementType,
  newData,
  type NumericData,
  packTensors,
  type TensorInfo,
  type TensorValue,
} from './tensor.js';

interface Held {
  readonly session: InferenceSession;
  readonly profiled: boolean;
  /** Whether it writes all its outputs in place (libs/onnx/ops/sequence.ts). */
  readonly inPlace: boolean;
  /** What outputs are written into when no data crosses for them, by name. */
  readonly scratch: Map<string, NumericData>;
}

const sessions = new Map<number, Held>();
const resident = new ResidentStore();

/** Errors reach the caller as exceptions, so ONNX Runtime's own lines on stderr would only repeat them. */
const fatalOnly = 4;
// Also of what is no session's, such as its allocators.
env.logLevel = 'fatal';

function onnxOptions(settings: SessionSettings): InferenceSession.SessionOptions {
  return {
    executionProviders: [...providers[settings.provider].executionProviders],
    graphOptimizationLevel: settings.optimization,
    intraOpNumThreads: settings.threads,
    interOpNumThreads: 1,
    logSeverityLevel: fatalOnly,
    ...(settings.profile === undefined ? {} : { enableProfiling: true, profileFilePrefix: settings.profile }),
    extra: {
      session: {
        disable_prepacking: settings.prepacking ? '0' : '1',
        // Not to be said of the CPU itself.
        ...(settings.strict && settings.provider !== 'cpu' ? { disable_cpu_ep_fallback: '1' } : {}),
        intra_op: { allow_spinning: settings.spinning ? '1' : '0' },
        // Between the nodes of a run, not after it: then the cores are the callers' again.
        force_spinning_stop: '1',
      },
    },
  };
}

function describe(side: 'input' | 'output', metadata: readonly InferenceSession.ValueMetadata[]): TensorInfo[] {
  return metadata
    .filter((value) => !isMark(value))
    .map((value) => {
      if (!value.isTensor) throw new Error(`${side} ${value.name} is not a tensor`);
      if (!isElementType(value.type))
        throw new Error(`${side} ${value.name} has type ${value.type}, which is not supported`);
      return { name: value.name, type: value.type, shape: value.shape.map((dim) => dim ?? '') };
    });
}

function isMark({ name, isTensor }: InferenceSession.ValueMetadata): boolean {
  return name === IN_PLACE && !isTensor;
}

async function load(id: number, model: string | Uint8Array, settings: SessionSettings): Promise<WorkerReply> {
  const options = onnxOptions(settings);
  const session = await (typeof model === 'string'
    ? InferenceSession.create(model, options)
    : InferenceSession.create(model, options));
  try {
    const inputs = describe('input', session.inputMetadata);
    const outputs = describe('output', session.outputMetadata);
    const inPlace = session.outputMetadata.some(isMark);
    sessions.set(id, { session, profiled: settings.profile !== undefined, inPlace, scratch: new Map() });
    return { kind: 'loaded', inputs, outputs };
  } catch (thrown) {
    await session.release();
    throw thrown;
  }
}

async function run(request: WorkerRequest & { kind: 'run' }): Promise<{ reply: WorkerReply; transfer: ArrayBuffer[] }> {
  const held = sessions.get(request.session);
  if (held === undefined) throw new Error('the session is not loaded');
  const started = performance.now();
  const { copies } = request;
  for (const copy of copies?.rows ?? []) resident.copy(copies!.memory, copy);
  const bound = request.rows && resident.bound(request.rows, viewOf);
  const feeds: Record<string, Tensor> = { ...bound?.feeds };
  for (const [name, value] of Object.entries(request.feeds)) {
    feeds[name] = 'memory' in value ? viewOf(value) : tensorOf(value);
  }
  const { message } = request.relay ?? {};
  const relay = request.relay && resident.relay(request.relay.memory);
  for (const [name, value] of Object.entries(relay?.before(message) ?? {})) feeds[name] = tensorOf(value);
  if (request.into) {
    const answered = await runInto(held, feeds, request.into, bound?.fetches);
    const durationMs = performance.now() - started;
    if (relay) {
      const told = relay.after(message, valuesOf(answered));
      return { reply: { kind: 'result', outputs: {}, told, durationMs }, transfer: [] };
    }
    // What was lent goes back as it is; what is the worker's own is copied into the message of a process.
    const lent = Object.entries(request.into).flatMap(([name, target]) => ('data' in target ? [answered[name]!] : []));
    const transfer = [...new Set(lent.map(({ data }) => (data as NumericData).buffer as ArrayBuffer))];
    return { reply: { kind: 'result', outputs: valuesOf(answered), durationMs }, transfer };
  }
  const results = await held.session.run(feeds, [...(request.outputs ?? outputNames(held))]);
  const durationMs = performance.now() - started;
  const { packed, transfer } = packTensors(valuesOf(results), true);
  for (const value of Object.values(request.feeds)) {
    if ('memory' in value || Array.isArray(value.data)) continue;
    // A graph may answer with its input as it is.
    if (!transfer.includes(value.data.buffer as ArrayBuffer)) release(value.data);
  }
  return { reply: { kind: 'result', outputs: packed, durationMs }, transfer };
}

function tensorOf({ type, data, dims }: TensorValue): Tensor {
  return new Tensor(type as Tensor.Type, data, dims);
}

function valuesOf(results: Readonly<Record<string, Tensor>>): Record<string, TensorValue> {
  const values: Record<string, TensorValue> = {};
  for (const [name, { type, dims, data }] of Object.entries(results)) {
    values[name] = { type: type as TensorValue['type'], dims: [...dims], data: data as TensorValue['data'] };
  }
  return values;
}

function outputNames({ session }: Held): readonly string[] {
  return session.outputMetadata.filter((output) => !isMark(output)).map(({ name }) => name);
}

function viewOf(reference: ViewReference): Tensor {
  const { type, data, dims } = resident.view(reference);
  return new Tensor(type, data, dims);
}

/**
 * Runs into tensors that are there; those that are not resident are the result. A graph with the mark ends in the binding's refusal of
 * it, when everything has been written: that is its success.
 */
async function runInto(
  held: Held,
  feeds: Record<string, Tensor>,
  into: Record<string, OutputTensor | ViewReference>,
  bound: Readonly<Record<string, Tensor>> = {},
): Promise<Record<string, Tensor>> {
  const fetches: Record<string, Tensor | null> = { ...bound, ...(held.inPlace ? { [IN_PLACE]: null } : {}) };
  const answered: Record<string, Tensor> = {};
  for (const [name, target] of Object.entries(into)) {
    if ('memory' in target) fetches[name] = viewOf(target);
    else {
      const { type, dims } = target;
      const data = target.data ?? scratchOf(held, name, target);
      fetches[name] = answered[name] = new Tensor(type, data, dims);
    }
  }
  try {
    await held.session.run(feeds, fetches);
  } catch (thrown) {
    if (!held.inPlace || !(thrown instanceof Error) || !/non.tensor type/i.test(thrown.message)) throw thrown;
  }
  return answered;
}

/** For a worker process, which buffers do not come back to: one for each output, as large as it was at most. */
function scratchOf({ scratch }: Held, name: string, { type, dims }: OutputTensor): NumericData {
  const count = elementCount(dims);
  let data = scratch.get(name);
  if (data === undefined || data.length < count) scratch.set(name, (data = newData(type, count)));
  return data.subarray(0, count);
}

async function allocate({
  memory,
  session,
  tensors,
  bound,
  relay,
}: WorkerRequest & { kind: 'allocate' }): Promise<void> {
  const module = relay && ((await import(relay.module)) as RelayModule);
  resident.allocate(memory, session, tensors, bound, module?.openRelay());
}

async function dispose(id: number): Promise<void> {
  const held = sessions.get(id);
  sessions.delete(id);
  resident.freeOf(id);
  if (held?.profiled) held.session.endProfiling();
  await held?.session.release();
}

interface Answer {
  readonly reply: WorkerReply;
  readonly transfer?: ArrayBuffer[];
}

async function answer(request: WorkerTask): Promise<Answer> {
  try {
    switch (request.kind) {
      case 'load':
        return { reply: await load(request.session, request.model, request.options) };
      case 'run':
        return await run(request);
      case 'allocate':
        await allocate(request);
        return { reply: { kind: 'done' } };
      case 'backends':
        return { reply: { kind: 'backends', names: listSupportedBackends().map(({ name }) => name) } };
      case 'free':
        resident.free(request.memory);
        return { reply: { kind: 'done' } };
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
/** Requests that have not begun. */
const waiting: { readonly request: WorkerTask; withdrawn: boolean }[] = [];
let working = false;
port.onMessage((request) => {
  if (request.kind === 'withdraw') {
    const last = waiting.at(-1);
    if (last) last.withdrawn = true;
    return;
  }
  waiting.push({ request, withdrawn: false });
  if (!working) void work();
});

async function work(): Promise<void> {
  working = true;
  while (waiting.length > 0) {
    // A run blocks the thread, so that what came meanwhile comes all at once: also that the next is not wanted any more.
    await immediate();
    const { request, withdrawn } = waiting.shift()!;
    const { reply, transfer }: Answer = withdrawn ? { reply: { kind: 'withdrawn' } } : await answer(request);
    port.post(reply, transfer ?? []);
    if (request.kind === 'close') port.close();
  }
  working = false;
}
