/** Ranges of bytes of a file: read lazily where it is plain, held in memory where it is gzipped. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, readFile, stat } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import { HeartwoodError, invalid, messageOf } from '../errors/error.js';

export interface ByteSource {
  readonly path: string;
  readonly size: number;
  /** Exactly these bytes. Throws INVALID_ARGUMENT where the file has shrunk since. */
  read(offset: number, length: number): Promise<Buffer>;
}

/** Opens a file, unpacking it first if it ends in `.gz`. Throws NOT_FOUND, or INVALID_ARGUMENT on a broken gzip file. */
export async function openBytes(path: string): Promise<ByteSource> {
  const size = await sizeOf(path);
  if (!path.endsWith('.gz')) return { path, size, read: (offset, length) => readRange(path, offset, length) };
  const bytes = await unpack(path);
  return {
    path,
    size: bytes.length,
    read: (offset, length) => Promise.resolve(whole(path, bytes.subarray(offset, offset + length), length)),
  };
}

async function sizeOf(path: string): Promise<number> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    throw new HeartwoodError('NOT_FOUND', `${path} cannot be opened: ${messageOf(error)}`, { cause: error });
  }
}

async function unpack(path: string): Promise<Buffer> {
  try {
    return await promisify(gunzip)(await readFile(path));
  } catch (error) {
    throw invalid(`${path} is not a whole gzip file: ${messageOf(error)}`, error);
  }
}

async function readRange(path: string, offset: number, length: number): Promise<Buffer> {
  const file = await open(path);
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, offset);
    return whole(path, buffer.subarray(0, bytesRead), length);
  } finally {
    await file.close();
  }
}

function whole(path: string, bytes: Buffer, length: number): Buffer {
  if (bytes.length !== length)
    throw invalid(`${path} is truncated: ${bytes.length} bytes where ${length} were expected`);
  return bytes;
}

/** SHA-256 over the contents of files as they are on disk, in order, hexadecimal. */
export async function digestFiles(paths: readonly string[]): Promise<string> {
  const hash = createHash('sha256');
  for (const path of paths) await pipeline(createReadStream(path), hash, { end: false });
  return hash.digest('hex');
}
