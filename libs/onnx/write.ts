import { open, rename, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, extname, join, resolve } from 'node:path';
import { invalid, messageOf } from '../errors/error.js';
import { putBeside, temporaryBeside } from './beside.js';
import { encodeModel, tensorsOf, type ExternalLocation, type Placement } from './encode.js';
import type { Graph, Tensor } from './ir.js';

export { encodeModel } from './encode.js';

export interface WriteOptions {
  /** How files that external tensors refer to come to lie beside the model. Default: hard links, copies where those are refused. */
  readonly links?: 'hard' | 'copy';
}

/** Inline tensors above this many bytes go to the data file; the runtime wants small ones (shapes, axes) inside the protobuf. */
const inlineLimit = 1024;

/** The data file's tensors begin at multiples of a cache line, so that kernels read them in place from the mapped file. */
const alignment = 64;

/**
 * Writes a graph as an ONNX file, atomically: the path holds the old model or the new one, never half of one.
 *
 * Large inline tensors go to one raw file, `<stem>.data`, beside it; files that external tensors refer to are hard-linked
 * beside it under their base names (`beside.ts` says what happens where that cannot be done). The same graph gives the same bytes.
 */
export async function writeModel(graph: Graph, path: string, options: WriteOptions = {}): Promise<void> {
  const directory = dirname(resolve(path));
  const names = new Map<string, string>();
  try {
    for (const tensor of tensorsOf(graph)) {
      if (tensor.data.kind === 'external' && !names.has(tensor.data.file)) {
        names.set(tensor.data.file, await putBeside(tensor.data.file, directory, options.links));
      }
    }
    const data = await writeData(graph, join(directory, dataName(path, new Set(names.values()))));
    const place: Placement = (tensor) => {
      if (tensor.data.kind === 'inline') return data.get(tensor.data.bytes);
      const { file, offset, length } = tensor.data;
      return { location: names.get(file) ?? basename(file), offset, length };
    };
    await writeAtomically(path, (partial) => writeFile(partial, encodeModel(graph, place)));
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).syscall === undefined) throw cause;
    throw invalid(`${path}: cannot be written: ${messageOf(cause)}`, cause);
  }
}

/** `<stem>.data`, or the next name that is not a file which the graph itself refers to (a model that was read and is written back). */
function dataName(path: string, taken: ReadonlySet<string>): string {
  const stem = basename(path, extname(path));
  let name = `${stem}.data`;
  for (let i = 1; taken.has(name); i++) name = `${stem}-${i}.data`;
  return name;
}

/** Writes the large inline tensors, those that share their bytes once; where each one lies. */
async function writeData(graph: Graph, path: string): Promise<Map<Uint8Array, ExternalLocation>> {
  const placed = new Map<Uint8Array, ExternalLocation>();
  let end = 0;
  for (const tensor of tensorsOf(graph)) {
    if (!isLarge(tensor) || placed.has(tensor.data.bytes)) continue;
    const offset = Math.ceil(end / alignment) * alignment;
    end = offset + tensor.data.bytes.byteLength;
    placed.set(tensor.data.bytes, { location: basename(path), offset, length: tensor.data.bytes.byteLength });
  }
  if (placed.size === 0) return placed;
  await writeAtomically(path, async (partial) => {
    const file = await open(partial, 'wx');
    try {
      // Bytes between tensors are holes of the file, which read as zeros.
      for (const [bytes, { offset }] of placed) await writeFully(file, bytes, offset);
    } finally {
      await file.close();
    }
  });
  return placed;
}

function isLarge(tensor: Tensor): tensor is Tensor & { data: { kind: 'inline' } } {
  return tensor.type !== 'string' && tensor.data.kind === 'inline' && tensor.data.bytes.byteLength > inlineLimit;
}

async function writeFully(file: Awaited<ReturnType<typeof open>>, bytes: Uint8Array, offset: number): Promise<void> {
  // One write call takes at most 2 GiB.
  const chunk = 1 << 30;
  for (let done = 0; done < bytes.byteLength;) {
    const { bytesWritten } = await file.write(bytes, done, Math.min(chunk, bytes.byteLength - done), offset + done);
    done += bytesWritten;
  }
}

async function writeAtomically(path: string, write: (partial: string) => Promise<void>): Promise<void> {
  const partial = temporaryBeside(path);
  try {
    await write(partial);
    await rename(partial, path);
  } finally {
    await rm(partial, { force: true });
  }
}
