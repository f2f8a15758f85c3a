import type { Tensor } from 'onnxruntime-node';
import type { BoundRows, ResidentBinding, ResidentSpec, RowCopy, ViewReference } from './messages.js';
import type { Relay } from './relay.js';
import { elementCount, newData, type NumericData, type NumericType } from './tensor.js';

interface HeldTensor {
  readonly type: NumericType;
  readonly data: NumericData;
  readonly dims: readonly number[];
}

interface Held {
  readonly session: number;
  readonly tensors: ReadonlyMap<string, HeldTensor>;
  readonly bound: ResidentBinding;
  readonly relay: Relay | undefined;
  /** Views of everything that is bound, by their rows: the same few come again and again. */
  readonly views: Map<string, BoundViews>;
}

/** What is bound, as the tensors of a run, by input and by output. */
export interface BoundViews {
  readonly feeds: Readonly<Record<string, Tensor>>;
  readonly fetches: Readonly<Record<string, Tensor>>;
}

/** Views of so many rows are kept; they are small, but batches may be many. */
const mostViews = 256;

/** The worker's end of resident memory. */
export class ResidentStore {
  readonly #held = new Map<number, Held>();

  /** Zeros, which the system gives page by page when they are first touched. */
  allocate(id: number, session: number, tensors: ResidentSpec, bound: ResidentBinding, relay?: Relay): void {
    const made = Object.entries(tensors).map(
      ([name, { type, dims }]) => [name, { type, data: newData(type, elementCount(dims)), dims }] as const,
    );
    this.#held.set(id, { session, tensors: new Map(made), bound, relay, views: new Map() });
  }

  relay(memory: number): Relay {
    const relay = this.#held.get(memory)?.relay;
    if (relay === undefined) throw new Error('there is no relay of this resident memory');
    return relay;
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

  /** @param make a tensor of a view */
  bound({ memory, row, rows }: BoundRows, make: (view: ViewReference) => Tensor): BoundViews {
    const held = this.#held.get(memory);
    if (held === undefined) throw new Error('there is no such resident memory');
    const key = `${row}:${rows}`;
    const known = held.views.get(key);
    if (known) return known;
    const made = new Map<string, Tensor>();
    const viewsOf = (names: Readonly<Record<string, string>>): Record<string, Tensor> =>
      Object.fromEntries(
        Object.entries(names).map(([name, tensor]) => {
          const view = made.get(tensor) ?? make({ memory, tensor, row, rows });
          made.set(tensor, view);
          return [name, view];
        }),
      );
    const views = { feeds: viewsOf(held.bound.inputs), fetches: viewsOf(held.bound.outputs) };
    if (held.views.size >= mostViews) held.views.clear();
    held.views.set(key, views);
    return views;
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
