import type { ResidentBinding, ResidentMemory, ResidentSpec, RowCopy } from '../../../libs/runtime/resident.js';
import type { Feeds, Into, LateRun, Session } from '../../../libs/runtime/runtime.js';
import type { TensorValue } from '../../../libs/runtime/tensor.js';
import type { RowMove } from './cache/cache-rows.js';
import type { GenerationModel } from './served-graph.js';

/** New tokens of one or of several requests whose rows lie next to each other; of several each has one. */
export interface RunInput {
  readonly row: number;
  /** [request][token]. */
  readonly ids: readonly (readonly number[])[];
  /** Position of each request's first new token. */
  readonly positions: readonly number[];
  /** Tokens that each cache group holds: [request][group]. */
  readonly lengths: readonly (readonly number[])[];
  /** Nats, by request. */
  readonly budgets: readonly number[];
  /** Indices of the tokens whose logits are asked for. */
  readonly wanted: readonly number[];
}

export interface RunOutput {
  /** Of each request, one row after the other for each wanted token. */
  readonly logits: readonly (readonly Float32Array[])[];
  /** [request][group]. */
  readonly lengths: readonly (readonly number[])[];
}

interface CacheTensor {
  readonly past: string;
  readonly present: string;
  readonly group: number;
}

/** Puts tokens into the feeds of a graph of libs/models/generation-graph.ts, whose caches are resident, and reads what it answers. */
export class ModelRun {
  readonly groups: number;
  readonly #caches: readonly CacheTensor[];
  /** Logits are written into it, run for run. */
  #buffer = new ArrayBuffer(0);

  constructor(
    private readonly model: GenerationModel,
    private readonly session: Session,
  ) {
    this.groups = 1 + model.stages.length;
    this.#caches = model.caches.flatMap((_, block) => {
      const group = model.stages.filter((stage) => stage <= block).length;
      return ['key', 'value'].map((side) => ({
        past: `past.${block}.${side}`,
        present: `present.${block}.${side}`,
        group,
      }));
    });
  }

  /** The caches: so many rows of so many tokens. Throws as the session's. */
  allocate(rows: number, context: number): Promise<ResidentMemory> {
    const spec: ResidentSpec = Object.fromEntries(
      this.#caches.map(({ past }, index) => {
        const { heads, width } = this.model.caches[Math.floor(index / 2)]!;
        return [past, { type: 'float32', dims: [rows, heads, context, width] } as const];
      }),
    );
    // A cache's present is its past: written where it is.
    const bound: ResidentBinding = {
      inputs: Object.fromEntries(this.#caches.map(({ past }) => [past, past])),
      outputs: Object.fromEntries(this.#caches.map(({ past, present }) => [present, past])),
    };
    return this.session.allocate(spec, bound);
  }

  copyOf({ from, to, lengths }: RowMove): RowCopy {
    const counts = Object.fromEntries(this.#caches.map(({ past, group }) => [past, lengths[group]!]));
    return { from, to, axis: 2, counts };
  }

  /** For a memory of `allocate`. */
  run(input: RunInput, copies: readonly RowCopy[]): LateRun {
    const { row, ids, wanted } = input;
    const batch = ids.length;
    const feeds: Record<string, Feeds[string]> = {
      input_ids: integers(ids),
      positions: integers(ids.map((each, b) => each.map((_, i) => input.positions[b]! + i))),
      wanted: integers(ids.map(() => wanted)),
      cached: { type: 'int32', dims: [batch, this.groups], data: Int32Array.from(input.lengths.flat()) },
    };
    const into: Record<string, Into[string]> = {
      logits: this.#logits(batch, wanted.length),
      cached_after: { type: 'int32', dims: [batch, this.groups], data: new Int32Array(batch * this.groups) },
    };
    if (this.model.stages.length > 0)
      feeds['budget'] = { type: 'float32', dims: [batch, 1], data: Float32Array.from(input.budgets) };
    return { feeds, into, rows: { first: row, count: batch }, copies, transfer: true };
  }

  read(outputs: Readonly<Record<string, TensorValue>>, { ids, wanted }: RunInput): RunOutput {
    const { vocabulary } = this.model;
    const logits = outputs['logits']!.data as Float32Array<ArrayBuffer>;
    this.#buffer = logits.buffer;
    const row = (b: number, k: number): Float32Array => {
      const from = (b * wanted.length + k) * vocabulary;
      return logits.subarray(from, from + vocabulary);
    };
    return {
      logits: ids.map((_, b) => wanted.map((_, k) => row(b, k))),
      lengths: rowsOf(outputs['cached_after']!, ids.length, this.groups),
    };
  }

  /** Whether the session is of such a graph: the first of its inputs or outputs that is missing, if any is. */
  missing(): string | undefined {
    const inputs = ['input_ids', 'positions', 'wanted', 'cached', ...this.#caches.map(({ past }) => past)];
    const outputs = ['logits', 'cached_after', ...this.#caches.map(({ present }) => present)];
    if (this.model.stages.length > 0) inputs.push('budget');
    const has = (side: 'inputs' | 'outputs', name: string): boolean =>
      this.session[side].some((info) => info.name === name);
    const input = inputs.find((name) => !has('inputs', name));
    if (input !== undefined) return `input ${input}`;
    const output = outputs.find((name) => !has('outputs', name));
    return output === undefined ? undefined : `output ${output}`;
  }

  #logits(batch: number, wanted: number): Into[string] {
    const count = batch * wanted * this.model.vocabulary;
    // The buffer is away where the last run failed, and too small where more is asked for than ever before.
    if (this.#buffer.byteLength < 4 * count) this.#buffer = new ArrayBuffer(4 * count);
    return {
      type: 'float32',
      dims: [batch, wanted, this.model.vocabulary],
      data: new Float32Array(this.#buffer, 0, count),
    };
  }
}

function integers(rows: readonly (readonly number[])[]): TensorValue {
  const width = rows[0]!.length;
  const data = new BigInt64Array(rows.length * width);
  let at = 0;
  for (const row of rows) for (const value of row) data[at++] = BigInt(value);
  return { type: 'int64', dims: [rows.length, width], data };
}

function rowsOf(tensor: TensorValue, rows: number, width: number): number[][] {
  const data = tensor.data as Int32Array;
  return Array.from({ length: rows }, (_, row) => [...data.slice(row * width, (row + 1) * width)]);
}
