import { HeartwoodError, messageOf } from '../../../libs/errors/error.js';
import type { Session } from '../../../libs/runtime/runtime.js';
import { elementCount, type TensorInfo, type TensorValue } from '../../../libs/runtime/tensor.js';
import type { ImageManifest } from '../../../libs/store/manifest.js';
import { defaultPriority } from '../scheduling/scheduler.js';
import { BUDGET, PIXELS } from './tensor-names.js';

export interface WarmUpSettings {
  /** Workers that a version is loaded on. */
  readonly instances: number;
  /** Batch sizes that it runs once on each of them before it is ready. */
  readonly warmUpSizes: readonly number[];
}

/** One sample, and the largest run that is aimed at, where any is. */
export function sizesToWarmUp({ preferredBatches, runBatch, maxBatch }: Batches): number[] {
  return [...new Set([1, Math.min(Math.max(1, ...preferredBatches), runBatch, maxBatch)])];
}

interface Batches {
  readonly preferredBatches: readonly number[];
  /** Samples of the largest run that requests share. */
  readonly runBatch: number;
  /** Samples of the largest request. */
  readonly maxBatch: number;
}

/**
 * Runs a session over made-up samples, once for each batch size on each of its workers: the runtime allocates and tunes at its first
 * runs, and a model that loads but cannot run is found out before a request does.
 * Throws the run's error with the batch size in front.
 */
export async function warmUp(
  session: Session,
  manifest: ImageManifest,
  sizes: readonly number[],
  signal?: AbortSignal,
): Promise<void> {
  // In their turn with the requests to other versions on the same workers.
  const options = { transfer: true, priority: () => defaultPriority, ...(signal ? { signal } : {}) };
  for (const size of sizes) {
    // Side by side, since a run goes to the worker that has least to do.
    const runs = Array.from({ length: session.instances }, () =>
      session.run(madeUpFeeds(session.inputs, manifest, size), options),
    );
    const failed = (await Promise.allSettled(runs)).find((run) => run.status === 'rejected');
    if (failed === undefined) continue;
    signal?.throwIfAborted();
    const code = failed.reason instanceof HeartwoodError ? failed.reason.code : 'INTERNAL';
    const message = `the warm-up with a batch of ${size} failed: ${messageOf(failed.reason)}`;
    throw new HeartwoodError(code, message, { cause: failed.reason });
  }
}

function madeUpFeeds(
  inputs: readonly TensorInfo[],
  { input, budget }: ImageManifest,
  batch: number,
): Record<string, TensorValue> {
  const feeds: Record<string, TensorValue> = {};
  for (const { name, type, shape } of inputs) {
    const dims =
      name === PIXELS
        ? [batch, input.channels, input.height, input.width]
        : shape.map((dim, axis) => (axis === 0 ? batch : typeof dim === 'number' ? dim : 1));
    checkSize(name, type, dims);
    feeds[name] =
      name === BUDGET
        ? { type: 'float32', dims, data: new Float32Array(batch).fill(budget?.default ?? 0) }
        : { type, dims, data: madeUpData(type, elementCount(dims)) };
  }
  return feeds;
}

/** Bytes of the largest made-up input: more than any client could send, and little enough to be made. */
const largestInput = 256 * 1024 * 1024;
/** Of an element of each type; a text costs a pointer, and work. */
const elementBytes = { string: 64, float64: 8, int64: 8, float32: 4, int32: 4 } as const;

/** What a model file says of its inputs may be a mistake, or malice, and would otherwise be made in this process. */
function checkSize(name: string, type: TensorInfo['type'], dims: readonly number[]): void {
  const bytes = elementCount(dims) * (elementBytes[type as keyof typeof elementBytes] ?? 1);
  if (bytes >= 0 && bytes <= largestInput) return;
  throw new HeartwoodError(
    'INVALID_ARGUMENT',
    `input ${name.slice(0, 140)} of shape [${dims.slice(0, 16).join(', ')}] is too large to be served: expected at most ${largestInput} bytes`,
  );
}

/** Noise for fractions, so that what depends on the data (which tokens are merged) has something to go by; zeros for the rest. */
function madeUpData(type: TensorInfo['type'], count: number): TensorValue['data'] {
  switch (type) {
    case 'float32':
      return noise(new Float32Array(count));
    case 'float64':
      return noise(new Float64Array(count));
    case 'int64':
      return new BigInt64Array(count);
    case 'int32':
      return new Int32Array(count);
    case 'int8':
      return new Int8Array(count);
    case 'string':
      return Array.from({ length: count }, () => '');
    default:
      return new Uint8Array(count);
  }
}

/** In [-1, 1), the same at every start (a linear congruential generator, Numerical Recipes' constants). */
function noise<T extends Float32Array | Float64Array>(values: T): T {
  let state = 1;
  for (let at = 0; at < values.length; at++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    values[at] = state / 2 ** 31 - 1;
  }
  return values;
}
