/**
 * The safetensors format (https://github.com/huggingface/safetensors): 8 bytes of little-endian header length, a JSON
 * header, then the raw little-endian tensors, which tile the rest of the file without holes or overlaps.
 */
import { randomBytes } from 'node:crypto';
import { open, rename, rm, type FileHandle } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { z } from 'zod';
import { HeartwoodError, invalid, messageOf } from '../errors/error.js';
import { writeFailure } from '../errors/write-failure.js';
import { elementSize, type ElementType } from '../onnx/ir.js';
import { widenBfloat16, widenFloat16 } from './float16.js';

/** A tensor as a byte range of a file (absolute path). */
export interface TensorLocation {
  readonly name: string;
  readonly type: ElementType;
  readonly shape: readonly number[];
  readonly file: string;
  readonly offset: number;
  readonly length: number;
}

type RawType = Exclude<ElementType, 'string'>;

const typeOfDtype: Readonly<Record<string, RawType>> = {
  F64: 'float64',
  F32: 'float32',
  F16: 'float16',
  BF16: 'bfloat16',
  I64: 'int64',
  I32: 'int32',
  I8: 'int8',
  U8: 'uint8',
  BOOL: 'bool',
};

const dtypeOf = Object.fromEntries(Object.entries(typeOfDtype).map(([dtype, type]) => [type, dtype])) as Record<
  RawType,
  string
>;

/** The format's own limit, against headers that are not headers. */
const headerLimit = 100_000_000;

const size = z.int().min(0);
const entrySchema = z.object({ dtype: z.string(), shape: z.array(size), data_offsets: z.tuple([size, size]) });

export interface SafetensorsFile {
  readonly tensors: ReadonlyMap<string, TensorLocation>;
  readonly metadata: Readonly<Record<string, string>>;
}

/** Reads and checks the header of a file. Throws NOT_FOUND or INVALID_ARGUMENT, naming the file and the tensor. */
export async function readSafetensors(path: string): Promise<SafetensorsFile> {
  const file = resolve(path);
  const handle = await openForReading(file);
  try {
    return await readHeader(handle, file);
  } finally {
    await handle.close();
  }
}

async function readHeader(handle: FileHandle, file: string): Promise<SafetensorsFile> {
  const found = await handle.stat();
  if (!found.isFile()) throw invalid(`${file}: not a file, expected safetensors`);
  if (found.size < 8) throw invalid(`${file}: ${found.size} bytes, too short for a safetensors file`);
  const headerLength = Number(Buffer.from(await readRange(handle, file, 0, 8)).readBigUInt64LE());
  if (headerLength < 2 || headerLength > headerLimit) {
    throw invalid(`${file}: not a safetensors file (its header would have ${headerLength} bytes)`);
  }
  const start = 8 + headerLength;
  if (start > found.size) throw invalid(`${file}: cut short: a header of ${headerLength} bytes in ${found.size} bytes`);
  const entries = parseHeader(await readRange(handle, file, 8, headerLength), file);
  const tensors = new Map<string, TensorLocation>();
  for (const [name, entry] of entries.tensors) tensors.set(name, locate(name, entry, file, start));
  checkTiling([...tensors.values()], file, start, found.size);
  return { tensors, metadata: entries.metadata };
}

function parseHeader(bytes: Uint8Array, file: string) {
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw invalid(`${file}: not a safetensors file (its header is not JSON)`, cause);
  }
  if (typeof header !== 'object' || header === null || Array.isArray(header)) {
    throw invalid(`${file}: not a safetensors file (its header is not a JSON object)`);
  }
  const { __metadata__: metadata, ...entries } = header as Record<string, unknown>;
  const strings = z.record(z.string(), z.string()).nullish().safeParse(metadata);
  if (!strings.success) throw invalid(`${file}: __metadata__ is not an object of strings`);
  return { tensors: Object.entries(entries), metadata: strings.data ?? {} };
}

function locate(name: string, entry: unknown, file: string, start: number): TensorLocation {
  const parsed = entrySchema.safeParse(entry);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    throw invalid(`${file}: tensor ${name}: ${issue.path.join('.') || 'entry'}: ${issue.message}`);
  }
  const { dtype, shape, data_offsets: offsets } = parsed.data;
  const type = Object.hasOwn(typeOfDtype, dtype) ? typeOfDtype[dtype] : undefined;
  if (type === undefined) {
    throw invalid(`${file}: tensor ${name}: dtype ${dtype}, expected one of ${Object.keys(typeOfDtype).join(', ')}`);
  }
  const length = offsets[1] - offsets[0];
  const expected = shape.reduce((product, dim) => product * dim, elementSize[type]);
  if (length !== expected) {
    throw invalid(
      `${file}: tensor ${name}: ${length} bytes (data_offsets ${offsets.join(' to ')}), ` +
        `its shape [${shape.join(', ')}] of ${dtype} wants ${expected}`,
    );
  }
  return { name, type, shape, file, offset: start + offsets[0], length };
}

function checkTiling(tensors: TensorLocation[], file: string, start: number, size: number): void {
  let end = start;
  for (const tensor of tensors.sort((a, b) => a.offset - b.offset || a.length - b.length)) {
    if (tensor.offset !== end) {
      const what = tensor.offset < end ? 'overlaps the tensor before it' : 'leaves a hole before it';
      throw invalid(`${file}: tensor ${tensor.name} at byte ${tensor.offset} ${what}, expected it at ${end}`);
    }
    end += tensor.length;
    if (end > size) throw invalid(`${file}: cut short: tensor ${tensor.name} ends at byte ${end} of ${size}`);
  }
  if (end !== size) throw invalid(`${file}: ${size - end} bytes after the last tensor, expected none`);
}

async function openForReading(file: string): Promise<FileHandle> {
  try {
    return await open(file, 'r');
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code === 'ENOENT' ? 'NOT_FOUND' : 'INVALID_ARGUMENT';
    throw new HeartwoodError(code, `${file}: cannot be read: ${messageOf(cause)}`, { cause });
  }
}

async function readRange(handle: FileHandle, file: string, offset: number, length: number): Promise<Uint8Array> {
  // A buffer of its own, aligned for any typed array over it.
  const bytes = new Uint8Array(length);
  for (let done = 0; done < length;) {
    const { bytesRead } = await handle.read(bytes, done, Math.min(length - done, 1 << 30), offset + done);
    if (bytesRead === 0) throw invalid(`${file}: cut short at byte ${offset + done}`);
    done += bytesRead;
  }
  return bytes;
}

/** The raw bytes of a tensor, in a buffer of their own. */
export async function readTensorBytes(location: TensorLocation): Promise<Uint8Array> {
  const handle = await openForReading(location.file);
  try {
    return await readRange(handle, location.file, location.offset, location.length);
  } finally {
    await handle.close();
  }
}

/** A float tensor (float32, float16, bfloat16 or float64) as float32, in the order of its shape. */
export async function readTensor(location: TensorLocation): Promise<Float32Array> {
  const { buffer } = await readTensorBytes(location);
  switch (location.type) {
    case 'float32':
      return new Float32Array(buffer);
    case 'float16':
      return widenFloat16(new Uint16Array(buffer));
    case 'bfloat16':
      return widenBfloat16(new Uint16Array(buffer));
    case 'float64':
      return Float32Array.from(new Float64Array(buffer));
    default:
      throw invalid(`${location.file}: tensor ${location.name} is ${location.type}, expected floating point`);
  }
}

/** A tensor to be written. Bytes that are given as a function are made when their turn comes, so that not all need memory. */
export interface TensorToWrite {
  readonly name: string;
  readonly type: ElementType;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array | (() => Promise<Uint8Array>);
}

/** Writes a safetensors file, atomically; tensors in the order given. */
export async function writeSafetensors(
  path: string,
  tensors: readonly TensorToWrite[],
  metadata?: Readonly<Record<string, string>>,
): Promise<void> {
  const header: Record<string, unknown> = metadata ? { __metadata__: metadata } : {};
  let end = 0;
  for (const { name, type, shape } of tensors) {
    if (type === 'string') throw invalid(`${path}: tensor ${name} is of strings, which safetensors cannot hold`);
    if (Object.hasOwn(header, name)) throw invalid(`${path}: two tensors are called ${name}`);
    const begin = end;
    end += shape.reduce((product, dim) => product * dim, elementSize[type]);
    header[name] = { dtype: dtypeOf[type], shape, data_offsets: [begin, end] };
  }
  const json = Buffer.from(JSON.stringify(header), 'utf8');
  // Padded with spaces, so that the tensors begin aligned.
  const head = Buffer.alloc(8 + Math.ceil(json.length / 8) * 8, ' ');
  head.writeBigUInt64LE(BigInt(head.length - 8));
  json.copy(head, 8);
  const partial = join(dirname(path), `.${basename(path)}.${process.pid}-${randomBytes(4).toString('hex')}`);
  try {
    const handle = await open(partial, 'wx');
    try {
      await handle.appendFile(head);
      for (const tensor of tensors) await append(handle, tensor, path);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(partial, path);
  } catch (cause) {
    throw writeFailure(path, cause);
  } finally {
    await rm(partial, { force: true });
  }
}

async function append(handle: FileHandle, { name, type, shape, bytes }: TensorToWrite, path: string): Promise<void> {
  const data = typeof bytes === 'function' ? await bytes() : bytes;
  const expected = shape.reduce((product, dim) => product * dim, elementSize[type as RawType]);
  if (data.byteLength !== expected) {
    throw invalid(`${path}: tensor ${name} has ${data.byteLength} bytes, its shape [${shape.join(', ')}] wants ${expected}`);
  }
  for (let done = 0; done < data.byteLength;) {
    const { bytesWritten } = await handle.write(data, done, Math.min(data.byteLength - done, 1 << 30));
    done += bytesWritten;
  }
}
