import { HeartwoodError, invalid } from '../errors/error.js';
import type { ResidentBinding, ResidentSpec, RowCopy, ViewReference } from './messages.js';
import type { RelaySource } from './relay.js';
import type { Slot } from './slot.js';
import { elementCount, isElementType, type NumericType } from './tensor.js';

export type { ResidentBinding, ResidentSpec, RowCopy } from './messages.js';

export const unbound: ResidentBinding = { inputs: {}, outputs: {} };

/** Consecutive rows of a tensor that stays in a worker: fed to a run, or written by it in place. */
export interface ResidentView {
  readonly memory: ResidentMemory;
  readonly type: NumericType;
  /** [rows, …] */
  readonly dims: readonly number[];
  readonly reference: ViewReference;
}

export function isView(value: object): value is ResidentView {
  return 'reference' in value;
}

/**
 * Tensors that live in the worker of a session, so that a run reads and writes them where they are and nothing of them crosses to this
 * thread: the caches of a language model. They are zero at first, and take memory only where they have been touched. They are lost when
 * their worker dies.
 */
export class ResidentMemory {
  readonly #epoch: number;
  #freed = false;

  /** @param slot which holds it already */
  constructor(
    readonly slot: Slot,
    readonly id: number,
    readonly tensors: ResidentSpec,
    /** What the runs' `rows` stand for. */
    readonly bound: ResidentBinding = unbound,
    /** What stands between its runs, if anything. */
    readonly relay?: RelaySource,
  ) {
    this.#epoch = slot.epoch;
  }

  /** Of all tensors, touched or not. */
  get bytes(): number {
    return bytesOf(this.tensors);
  }

  /** Whether its worker has died, and it with it. */
  get lost(): boolean {
    return this.slot.epoch !== this.#epoch;
  }

  /** Throws UNAVAILABLE when it is lost, FAILED_PRECONDITION when it was freed. */
  check(): void {
    if (this.#freed) throw new HeartwoodError('FAILED_PRECONDITION', 'the resident memory is freed');
    if (this.lost) throw new HeartwoodError('UNAVAILABLE', 'the resident memory is lost: its worker died');
  }

  /** Throws INVALID_ARGUMENT for a tensor or rows that it does not have. */
  view(tensor: string, row: number, rows: number): ResidentView {
    const spec = this.tensors[tensor];
    if (spec === undefined)
      throw invalid(`resident tensor ${tensor}: expected ${Object.keys(this.tensors).join(', ')}`);
    const [most = 0, ...rest] = spec.dims;
    checkRows(tensor, most, row, rows);
    return { memory: this, type: spec.type, dims: [rows, ...rest], reference: { memory: this.id, tensor, row, rows } };
  }

  /** Gives it back after the runs that are queued already. */
  async free(): Promise<void> {
    if (this.#freed) return;
    this.#freed = true;
    if (!this.lost) await this.slot.free(this.id);
  }
}

function checkRows(tensor: string, most: number, row: number, rows: number): void {
  if (!Number.isInteger(row) || !Number.isInteger(rows) || row < 0 || rows < 0 || row + rows > most)
    throw invalid(`resident tensor ${tensor}: rows ${row} to ${row + rows - 1}, expected within its ${most}`);
}

/** Throws INVALID_ARGUMENT for rows that what is bound does not have. */
export function checkBoundRows({ tensors }: ResidentMemory, { first, count }: { first: number; count: number }): void {
  for (const [name, { dims }] of Object.entries(tensors)) checkRows(name, dims[0]!, first, count);
}

/** Throws INVALID_ARGUMENT for a tensor that cannot be held. */
export function checkSpec(tensors: ResidentSpec): void {
  for (const [name, { type, dims }] of Object.entries(tensors)) {
    if (!isElementType(type) || (type as string) === 'string')
      throw invalid(`resident tensor ${name} has type ${type}, expected one of numbers`);
    if (dims.length === 0 || dims.some((dim) => !Number.isInteger(dim) || dim < 1))
      throw invalid(`resident tensor ${name} has shape [${dims.join(', ')}], expected dimensions of at least 1`);
  }
}

const elementBytes: Readonly<Record<NumericType, number>> = {
  float32: 4,
  float64: 8,
  int64: 8,
  int32: 4,
  int8: 1,
  uint8: 1,
  bool: 1,
};

export function bytesOf(tensors: ResidentSpec): number {
  return Object.values(tensors).reduce((sum, { type, dims }) => sum + elementCount(dims) * elementBytes[type], 0);
}

/** Throws INVALID_ARGUMENT for rows or entries that the memory does not have. */
export function checkCopies(memory: ResidentMemory | undefined, copies: readonly RowCopy[]): void {
  if (copies.length > 0 && memory === undefined) throw invalid('copies: expected with a resident memory');
  for (const { from, to, axis, counts } of copies) {
    for (const [name, length] of Object.entries(counts)) {
      const dims = memory?.tensors[name]?.dims ?? [];
      if (![from, to].every((row) => Number.isInteger(row) && row >= 0 && row < (dims[0] ?? 0)))
        throw invalid(`copy of ${name}: rows ${from} and ${to}, expected of its ${dims[0] ?? 0}`);
      if (axis < 1 || !(length >= 0 && length <= (dims[axis] ?? -1)))
        throw invalid(`copy of ${name}: ${length} entries of axis ${axis}, expected at most ${dims[axis] ?? 0}`);
    }
  }
}
