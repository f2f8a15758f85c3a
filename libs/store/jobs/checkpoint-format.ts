import { createHash } from 'node:crypto';
import { internal } from '../../errors/error.js';

// A checkpoint is: magic (8 bytes), SHA-256 of the header (32), length of the header (8, little-endian), the header (JSON), the
// blocks. The header holds the value with every typed array replaced by a reference to a block, and the digest of each block. So
// arrays are exact to the bit and free of the limit that a string has, and nothing is made of bytes that were not checked.

const MAGIC = Buffer.from('HWCKPT01');
const MAX_PIECE = 2 ** 32;
const ARRAYS = { Float32Array, Float64Array, Int32Array, Uint32Array, Int8Array, Uint8Array, BigInt64Array } as const;
type ArrayName = keyof typeof ARRAYS;
type TypedArray = InstanceType<(typeof ARRAYS)[ArrayName]>;

interface Header {
  value: unknown;
  blocks: { kind: ArrayName; bytes: number; sha256: string }[];
}

/**
 * Encodes JSON values, undefined, typed arrays, -0, NaN, the infinities and bigint so that {@link decodeCheckpoint} gives them back
 * exactly.
 * @throws HeartwoodError INTERNAL for what it could not give back (functions, class instances), naming where it is
 */
export function encodeCheckpoint(value: unknown): Uint8Array[] {
  const arrays: TypedArray[] = [];
  const replaced = replace(value, arrays, 'value');
  const bytes = arrays.map((array) => new Uint8Array(array.buffer, array.byteOffset, array.byteLength));
  const blocks = arrays.map((array, index) => ({
    kind: arrayName(array)!,
    bytes: array.byteLength,
    sha256: sha256(bytes[index]!).toString('hex'),
  }));
  const header = Buffer.from(JSON.stringify({ value: replaced, blocks } satisfies Header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  return [MAGIC, sha256(header), length, header, ...bytes];
}

/**
 * Reads what {@link encodeCheckpoint} wrote, from chunks of any sizes. Every array gets a buffer of its own.
 * @returns the value, or undefined when the bytes are not a whole, unchanged checkpoint
 */
export async function decodeCheckpoint(
  chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
): Promise<{ value: unknown } | undefined> {
  const reader = new ByteReader(chunks);
  const magic = await reader.read(MAGIC.length);
  const digest = await reader.read(32);
  if (!magic || !digest || !MAGIC.equals(magic)) return undefined;
  const length = await reader.read(8);
  if (!length) return undefined;
  const text = await reader.read(Number(Buffer.from(length.buffer).readBigUInt64LE()));
  if (!text || !sha256(text).equals(digest)) return undefined;
  const header = JSON.parse(Buffer.from(text.buffer).toString()) as Header;
  const arrays: TypedArray[] = [];
  for (const block of header.blocks) {
    const bytes = await reader.read(block.bytes);
    if (!bytes || sha256(bytes).toString('hex') !== block.sha256) return undefined;
    arrays.push(new ARRAYS[block.kind](bytes.buffer as ArrayBuffer));
  }
  return { value: restore(header.value, arrays) };
}

// What JSON cannot say is an object with a single key that begins with `$`; a real object with such a key is wrapped in `$object`.
function replace(value: unknown, arrays: TypedArray[], path: string): unknown {
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return value;
  if (typeof value === 'number')
    return Number.isFinite(value) && !Object.is(value, -0)
      ? value
      : { $number: Object.is(value, -0) ? '-0' : String(value) };
  if (typeof value === 'bigint') return { $bigint: String(value) };
  if (value === undefined) return { $undefined: true };
  if (Array.isArray(value)) return value.map((item, index) => replace(item, arrays, `${path}[${index}]`));
  if (arrayName(value)) return { $array: arrays.push(value as TypedArray) - 1 };
  if (
    typeof value === 'object' &&
    (Object.getPrototypeOf(value) === Object.prototype || Object.getPrototypeOf(value) === null)
  ) {
    const entries = Object.entries(value).map(([key, item]) => [key, replace(item, arrays, `${path}.${key}`)] as const);
    // A pair list also carries `__proto__`, which an assignment would lose.
    return entries.some(([key]) => key.startsWith('$') || key === '__proto__')
      ? { $object: entries }
      : Object.fromEntries(entries);
  }
  throw internal(`a checkpoint can hold JSON values and typed arrays; ${path} is ${describe(value)}`);
}

function restore(value: unknown, arrays: TypedArray[]): unknown {
  if (Array.isArray(value)) return value.map((item) => restore(item, arrays));
  if (typeof value !== 'object' || value === null) return value;
  const special = value as Record<string, unknown>;
  if ('$number' in special) return Number(special['$number']);
  if ('$bigint' in special) return BigInt(special['$bigint'] as string);
  if ('$undefined' in special) return undefined;
  if ('$array' in special) return arrays[special['$array'] as number];
  const entries = '$object' in special ? (special['$object'] as [string, unknown][]) : Object.entries(special);
  return Object.fromEntries(entries.map(([key, item]) => [key, restore(item, arrays)]));
}

function arrayName(value: unknown): ArrayName | undefined {
  // Buffer is a Uint8Array and comes back as one.
  if (value instanceof Uint8Array) return 'Uint8Array';
  return (Object.keys(ARRAYS) as ArrayName[]).find((name) => value instanceof ARRAYS[name]);
}

function describe(value: unknown): string {
  return typeof value === 'object'
    ? `a ${(value as object).constructor?.name ?? 'foreign object'}`
    : `a ${typeof value}`;
}

function sha256(bytes: Uint8Array): Buffer {
  return createHash('sha256').update(bytes).digest();
}

/** Takes exact lengths out of a sequence of chunks. */
class ByteReader {
  readonly #chunks: AsyncIterator<Uint8Array> | Iterator<Uint8Array>;
  #rest: Uint8Array = new Uint8Array(0);

  constructor(chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>) {
    this.#chunks = Symbol.asyncIterator in chunks ? chunks[Symbol.asyncIterator]() : chunks[Symbol.iterator]();
  }

  /** The next `length` bytes in a buffer of their own, or undefined when there are not so many. */
  async read(length: number): Promise<Uint8Array | undefined> {
    // A damaged length must not become an allocation.
    if (length > MAX_PIECE) return undefined;
    const bytes = new Uint8Array(length);
    for (let filled = 0; filled < length;) {
      if (this.#rest.length === 0) {
        const next: IteratorResult<Uint8Array, unknown> = await this.#chunks.next();
        if (next.done) return undefined;
        this.#rest = next.value;
      }
      const part = this.#rest.subarray(0, length - filled);
      bytes.set(part, filled);
      filled += part.length;
      this.#rest = this.#rest.subarray(part.length);
    }
    return bytes;
  }
}
