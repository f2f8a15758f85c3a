import type { ResidentSpec, RowCopy, ViewReference } from './messages.js';
import { elementCount, newData, type NumericData, type NumericType } from './tensor.js';

interface HeldTensor {
  readonly type: NumericType;
  readonly data: NumericData;
  readonly dims: readonly number[];
}

interface Held {
  readonly session: number;
  readonly tensors: ReadonlyMap<string, HeldTensor>;
}

/** The worker's end of resident memory. */
export class ResidentStore {
  readonly #held = new Map<number, Held>();

  /** Zeros, which the system gives page by page when they are first touched. */
  allocate(id: number, session: number, tensors: ResidentSpec): void {
    const made = Object.entries(tensors).map(
      ([name, { type, dims }]) => [name, { type, data: newData(type, elementCount(dims)), dims }] as const,
    );
    this.#held.set(id, { session, tensors: new Map(made) });
  }

  free(id: number): void {
    this.#held.delete(id);
  }

  freeOf(session: number): void {
    for (const [id, held] of this.#held) if (held.session === session) this.#held.delete(id);
  }

  view({ memory, tensor, row, rows }: ViewReference): HeldTensor {
    const { type, data, dims } = this.#tensor(memory, tensor);
    const size = elementCount(dims.slice(1));
    return { type, data: data.subarray(row * size, (row + rows) * size), dims: [rows, ...dims.slice(1)] };
  }

  /** Of each outer index (of the axes between the row's and `axis`) the first entries. */
  copy(memory: number, { from, to, axis, counts }: RowCopy): void {
    for (const [name, count] of Object.entries(counts)) {
      const { data, dims } = this.#tensor(memory, name);
      const outer = elementCount(dims.slice(1, axis));
      const entry = elementCount(dims.slice(axis + 1));
      const stride = dims[axis]! * entry;
      for (let index = 0; index < outer; index++) {
        const source = (from * outer + index) * stride;
        data.copyWithin((to * outer + index) * stride, source, source + count * entry);
      }
    }
  }

  #tensor(memory: number, name: string): HeldTensor {
    const tensor = this.#held.get(memory)?.tensors.get(name);
    if (tensor === undefined) throw new Error(`there is no resident tensor ${name}`);
    return tensor;
  }
}
