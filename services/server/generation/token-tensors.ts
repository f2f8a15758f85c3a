import type { TensorValue } from '../../../libs/runtime/tensor.js';

/** Rows of whole numbers, all of one length, as int64 [rows, length]. */
export function tokenIds(rows: readonly (readonly number[])[]): TensorValue {
  const width = rows[0]!.length;
  const data = new BigInt64Array(rows.length * width);
  let at = 0;
  for (const row of rows) for (const value of row) data[at++] = BigInt(value);
  return { type: 'int64', dims: [rows.length, width], data };
}

/** The rows of an int32 tensor [rows, length]. */
export function tokenRows({ data, dims: [rows = 0, width = 0] }: TensorValue): number[][] {
  const numbers = data as Int32Array;
  return Array.from({ length: rows }, (_, row) => [...numbers.subarray(row * width, (row + 1) * width)]);
}
