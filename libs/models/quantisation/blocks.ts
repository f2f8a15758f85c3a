import { internal, invalid } from '../../errors/error.js';

/** Weights that share a scale and a zero point: the blocks of the runtime's kernels, and of llama.cpp's formats. */
export const blockSize = 32;

/** Bits of a quantised weight. */
export type Bits = 4 | 8;
export const bitWidths: readonly Bits[] = [4, 8];

/**
 * A matrix [rows, columns] whose rows are cut into blocks of 32 columns (the last one filled up with weights of 0):
 * w ≈ scale · (q − zero), q and zero in 0 … 2^bits − 1. The layout of com.microsoft MatMulNBits and GatherBlockQuantized.
 */
export interface QuantisedArrays {
  readonly bits: Bits;
  readonly rows: number;
  readonly columns: number;
  /** q, [rows, blocks, 32 · bits / 8]; of two 4-bit numbers in a byte the first is the low half. */
  readonly packed: Uint8Array;
  /** [rows, blocks]. */
  readonly scales: Float32Array;
  /** [rows, ⌈blocks · bits / 8⌉], packed as q are; each row begins with a byte of its own. */
  readonly zeros: Uint8Array;
}

/** Blocks of a row. */
export function blocksOf(columns: number): number {
  return Math.ceil(columns / blockSize);
}

/** Bytes that hold so many numbers. */
export function packedBytes(count: number, bits: Bits): number {
  return Math.ceil((count * bits) / 8);
}

/** Bytes of a quantised matrix, with its scales and zero points: 5.125 bits a weight for 4, 9.25 for 8. */
export function quantisedBytes(rows: number, columns: number, bits: Bits): number {
  const blocks = blocksOf(columns);
  return rows * (blocks * (packedBytes(blockSize, bits) + Float32Array.BYTES_PER_ELEMENT) + packedBytes(blocks, bits));
}

/** Throws INVALID_ARGUMENT unless a weight can have so many bits; `what` names the field. */
export function bitsFrom(value: number, what: string): Bits {
  if (value !== 4 && value !== 8) throw invalid(`${what} is ${value}, expected 4 or 8`);
  return value;
}

/** Throws INTERNAL unless so many numbers are a matrix of these sizes. */
export function checkMatrix(values: ArrayLike<number>, rows: number, columns: number): void {
  if (values.length !== rows * columns) throw internal(`${values.length} numbers are no matrix [${rows}, ${columns}]`);
}
