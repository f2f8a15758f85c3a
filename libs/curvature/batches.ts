import type { Dataset } from '../data/dataset.js';
import type { TextDataset } from '../data/text/dataset.js';
import { HeartwoodError } from '../errors/error.js';
import type { TensorValue } from '../runtime/tensor.js';
import type { SampleBatch } from './network.js';

/** Samples of a dataset, in an order: images, or windows of text. */
export interface Samples<Data extends Dataset | TextDataset = Dataset | TextDataset> {
  readonly dataset: Data;
  readonly indices: readonly number[];
}

/** What is read of some samples: feeds that are filled up to the batch, and rows of the loss. */
export type ReadPart = (indices: readonly number[]) => Promise<Pick<SampleBatch, 'feeds' | 'rows'>>;

/** Reads samples part by part, the next one while the caller works. Throws what `read` throws; CANCELLED when the signal fires. */
export async function* readAhead(
  indices: readonly number[],
  batch: number,
  read: ReadPart,
  signal?: AbortSignal,
): AsyncGenerator<SampleBatch> {
  const starts = Array.from({ length: Math.ceil(indices.length / batch) }, (_, i) => i * batch);
  const readOne = async (start: number): Promise<SampleBatch> => {
    const part = indices.slice(start, start + batch);
    return { start, indices: part, ...(await read(part)) };
  };
  let next = starts.length > 0 ? readOne(0) : undefined;
  for (const start of starts) {
    if (signal?.aborted) {
      await next?.catch(() => undefined);
      throw new HeartwoodError('CANCELLED', 'scoring was cancelled', { cause: signal.reason });
    }
    const present = await next!;
    next = start + batch < indices.length ? readOne(start + batch) : undefined;
    // An error of the batch that is read ahead is told when its turn comes.
    next?.catch(() => undefined);
    yield present;
  }
}

/** The rows of some samples, one after another, filled up to a batch with the last of them: [batch, stride]. */
export function filledUp<T extends Float32Array | BigInt64Array>(rows: T, samples: number, batch: number): T {
  const stride = rows.length / samples;
  const Rows = rows.constructor as new (length: number) => T;
  const filled = new Rows(batch * stride);
  (filled as Float32Array).set(rows as Float32Array);
  for (let at = samples; at < batch; at++) filled.copyWithin(at * stride, (samples - 1) * stride, samples * stride);
  return filled;
}

/** int64 values of some samples, as many of each, filled up to a batch. */
export function integerBatch(values: readonly number[], samples: number, dims: readonly number[]): TensorValue {
  return { type: 'int64', dims, data: filledUp(BigInt64Array.from(values, BigInt), samples, dims[0]!) };
}
