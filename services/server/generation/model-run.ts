import type { RelaySource } from '../../../libs/runtime/relay.js';
import type { ResidentBinding, ResidentMemory, ResidentSpec, RowCopy } from '../../../libs/runtime/resident.js';
import type { Feeds, Into, LateRun, Session } from '../../../libs/runtime/runtime.js';
import type { TensorValue } from '../../../libs/runtime/tensor.js';
import type { RowMove } from './cache/cache-rows.js';
import type { TokenMessage } from './sampling/relayed-tokens.js';
import type { GenerationModel } from './served-graph.js';
import { tokenIds, tokenRows } from './token-tensors.js';

/** New tokens of one or of several requests whose rows lie next to each other; of several each has one. */
export interface RunShape {
  readonly row: number;
  /** New tokens of each. */
  readonly tokens: number;
  /** Position of each request's first new token. */
  readonly positions: readonly number[];
  /** Tokens that each cache group holds: [request][group]. */
  readonly lengths: readonly (readonly number[])[];
  /** Nats, by request. */
  readonly budgets: readonly number[];
  /** Indices of the tokens whose logits are asked for. */
  readonly wanted: readonly number[];
}

/** The same with the tokens, [request][token]. */
export interface RunInput extends Omit<RunShape, 'tokens'> {
  readonly ids: readonly (readonly number[])[];
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

/** Draws the tokens of a memory of `allocate` in the worker that has it. */
export const tokenRelay: RelaySource = {
  module: new URL('./sampling/token-relay.js', import.meta.url).href,
  inputs: ['input_ids'],
};

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

  /**
   * The caches: so many rows of so many tokens. Throws as the session's.
   * @param relay what draws the tokens of `relayed` runs
   */
  allocate(rows: number, context: number, relay?: RelaySource): Promise<ResidentMemory> {
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
    return this.session.allocate(spec, bound, relay);
  }

  copyOf({ from, to, lengths }: RowMove): RowCopy {
    const counts = Object.fromEntries(this.#caches.map(({ past, group }) => [past, lengths[group]!]));
    return { from, to, axis: 2, counts };
  }

  /** For a memory of `allocate`; its logits come here. */
  run({ ids, ...rest }: RunInput, copies: readonly RowCopy[]): LateRun {
    const batch = ids.length;
    const shape = { ...rest, tokens: ids[0]!.length };
    const into: Record<string, Into[string]> = {
      logits: this.#logits(batch, shape.wanted.length),
      cached_after: { type: 'int32', dims: [batch, this.groups], data: new Int32Array(batch * this.groups) },
    };
    return { ...this.#run(shape, copies), feeds: { input_ids: tokenIds(ids), ...this.#feeds(shape) }, into };
  }

  /** For a memory that was allocated with `tokenRelay`, which has the tokens and keeps the logits. */
  relayed(shape: RunShape, copies: readonly RowCopy[], message: TokenMessage): LateRun {
    const batch = shape.positions.length;
    const into: Record<string, Into[string]> = {
      logits: { type: 'float32', dims: [batch, shape.wanted.length, this.model.vocabulary] },
      cached_after: { type: 'int32', dims: [batch, this.groups] },
    };
    return { ...this.#run(shape, copies), feeds: this.#feeds(shape), into, relay: message };
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
      lengths: tokenRows(outputs['cached_after']!),
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

  #run({ row, positions }: RunShape, copies: readonly RowCopy[]): Pick<LateRun, 'rows' | 'copies' | 'transfer'> {
    return { rows: { first: row, count: positions.length }, copies, transfer: true };
  }

  #feeds({ tokens, positions, lengths, budgets, wanted }: RunShape): Record<string, Feeds[string]> {
    const batch = positions.length;
    const feeds: Record<string, Feeds[string]> = {
      positions: tokenIds(positions.map((first) => Array.from({ length: tokens }, (_, i) => first + i))),
      wanted: tokenIds(positions.map(() => wanted)),
      cached: { type: 'int32', dims: [batch, this.groups], data: Int32Array.from(lengths.flat()) },
    };
    if (this.model.stages.length > 0)
      feeds['budget'] = { type: 'float32', dims: [batch, 1], data: Float32Array.from(budgets) };
    return feeds;
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
