/** Jobs of several calls as one run's feeds, and its outputs as theirs. */
import { internal } from '../../../libs/errors/error.js';
import type { Session } from '../../../libs/runtime/runtime.js';
import { elementCount, type TensorInfo, type TensorValue, type TypedData } from '../../../libs/runtime/tensor.js';
import type { InferenceJob } from './scheduler.js';

type Tensors = Readonly<Record<string, TensorValue>>;

/** Whether the first axis of everything that goes in and comes out is the batch, so that calls may share a run. */
export function canShare({ inputs, outputs }: Pick<Session, 'inputs' | 'outputs'>): boolean {
  const symbol = inputs[0]?.shape[0];
  if (typeof symbol !== 'string') return false;
  return (
    inputs.every(({ shape }) => shape[0] === symbol) &&
    outputs.every(({ shape }: TensorInfo) => typeof shape[0] === 'string')
  );
}

/** Equal for jobs that may share a run: the same inputs, of the same shape but for the batch. */
export function shareKey({ feeds }: InferenceJob): string {
  return Object.keys(feeds)
    .sort()
    .map((name) => `${name}:${feeds[name]!.dims.slice(1).join('x')}`)
    .join(' ');
}

/** Bytes of a job's tensors. */
export function bytesOf({ feeds }: InferenceJob): number {
  let bytes = 0;
  for (const { data } of Object.values(feeds)) {
    if (!Array.isArray(data)) bytes += data.byteLength;
    else for (const text of data) bytes += 2 * text.length;
  }
  return bytes;
}

/** One job's feeds as they are; those of several one after the other along the first axis, in buffers of their own. */
export function joinFeeds(jobs: readonly InferenceJob[]): Tensors {
  const [first] = jobs;
  if (first === undefined || jobs.length === 1) return first?.feeds ?? {};
  const joined: Record<string, TensorValue> = {};
  for (const [name, { type, dims }] of Object.entries(first.feeds)) {
    const parts = jobs.map(({ feeds }) => feeds[name]!);
    const rows = parts.reduce((sum, part) => sum + part.dims[0]!, 0);
    joined[name] = { type, dims: [rows, ...dims.slice(1)], data: concatenate(parts.map(({ data }) => data)) };
  }
  return joined;
}

function concatenate(parts: readonly TypedData[]): TypedData {
  const [first] = parts;
  if (first === undefined || Array.isArray(first)) return (parts as string[][]).flat();
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  const whole = new (first.constructor as new (length: number) => Exclude<TypedData, string[]>)(length);
  let at = 0;
  for (const part of parts) {
    whole.set(part as never, at);
    at += part.length;
  }
  return whole;
}

/** The rows [from, from + rows) of every output, as views. Throws INTERNAL unless each has `total` rows. */
export function rowsOf(outputs: Tensors, from: number, rows: number, total: number): Tensors {
  if (rows === total) return outputs;
  const own: Record<string, TensorValue> = {};
  for (const [name, { type, dims, data }] of Object.entries(outputs)) {
    if (dims[0] !== total) throw internal(`output ${name}: ${dims[0]} rows for a batch of ${total}`);
    const size = elementCount(dims.slice(1));
    const [begin, end] = [from * size, (from + rows) * size];
    own[name] = {
      type,
      dims: [rows, ...dims.slice(1)],
      data: Array.isArray(data) ? data.slice(begin, end) : data.subarray(begin, end),
    };
  }
  return own;
}
