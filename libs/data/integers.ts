/** Integer tensors of a .safetensors file as numbers, whatever their width. */
import { invalid } from '../errors/error.js';
import { readTensorBytes, type TensorLocation } from '../models/safetensors.js';

/**
 * The elements, as exact numbers: callers check their range before they narrow them, since 2³² would come out as 0. Throws
 * INVALID_ARGUMENT on a tensor that is not of integers; `path` is what the error calls the file.
 */
export async function readIntegers(path: string, location: TensorLocation): Promise<number[]> {
  const read = integerReaders[location.type];
  if (!read) throw invalid(`${path}: ${location.name} is ${location.type}, expected integers`);
  const bytes = Buffer.from(await readTensorBytes(location));
  const length = location.shape.reduce((product, dim) => product * dim, 1);
  return Array.from({ length }, (_, at) => read(bytes, at));
}

const integerReaders: Readonly<Record<string, (bytes: Buffer, at: number) => number>> = {
  int64: (bytes, at) => Number(bytes.readBigInt64LE(at * 8)),
  int32: (bytes, at) => bytes.readInt32LE(at * 4),
  int8: (bytes, at) => bytes.readInt8(at),
  uint8: (bytes, at) => bytes.readUInt8(at),
};
