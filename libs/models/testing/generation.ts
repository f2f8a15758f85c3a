import type { Session } from '../../runtime/runtime.js';
import type { TensorValue } from '../../runtime/tensor.js';
import type { BlockCache } from '../generation-graph.js';

/** One run of a generation graph, by sequence. */
export interface GenerationStep {
  /** New tokens of each sequence, as many of each. */
  readonly ids: readonly (readonly number[])[];
  /** Indices into them; default the last one alone. */
  readonly wanted?: readonly (readonly number[])[];
  /** The position of each sequence's first new token; default after the tokens so far. */
  readonly from?: readonly number[];
  /** Of each new token, in place of those that follow `from`. */
  readonly positions?: readonly (readonly number[])[];
  /** Further inputs. */
  readonly feeds?: Readonly<Record<string, TensorValue>>;
}

/** Sequences with their caches, each run's outputs fed to the next one. */
export class Generating {
  private caches: Record<string, TensorValue>;
  private cached: Int32Array;
  private readonly length: number[];

  constructor(
    private readonly session: Session,
    private readonly blocks: readonly BlockCache[],
    batch: number,
    capacity: number,
  ) {
    const groups = 1 + Math.max(...blocks.map(({ group }) => group));
    this.cached = new Int32Array(batch * groups);
    this.length = Array.from({ length: batch }, () => 0);
    this.caches = Object.fromEntries(
      blocks.flatMap(({ heads, width, past }) =>
        past.map((name): [string, TensorValue] => {
          const dims = [batch, heads, capacity, width];
          return [name, { type: 'float32', dims, data: new Float32Array(batch * heads * capacity * width) }];
        }),
      ),
    );
  }

  /** Takes back what lies behind these lengths. */
  rewind(lengths: readonly number[]): void {
    const groups = this.cached.length / lengths.length;
    this.cached = Int32Array.from({ length: this.cached.length }, (_, i) => lengths[Math.floor(i / groups)]!);
  }

  /** All outputs; the caches become the past of the next step. */
  async step({ ids, wanted, from, positions, feeds }: GenerationStep): Promise<Record<string, TensorValue>> {
    const [batch, length] = [ids.length, ids[0]!.length];
    const asked = wanted ?? ids.map(() => [length - 1]);
    const first = from ?? this.length;
    const result = await this.session.run({
      input_ids: integers(ids),
      positions: integers(positions ?? ids.map((row, b) => row.map((_, i) => first[b]! + i))),
      wanted: integers(asked),
      cached: { type: 'int32', dims: [batch, this.cached.length / batch], data: this.cached },
      ...this.caches,
      ...feeds,
    });
    this.cached = result['cached_after']!.data as Int32Array;
    this.length.forEach((_, b) => (this.length[b] = first[b]! + length));
    this.caches = Object.fromEntries(
      this.blocks.flatMap(({ past, present }) => past.map((name, i) => [name, result[present[i]!]!])),
    );
    return result;
  }
}

function integers(rows: readonly (readonly number[])[]): TensorValue {
  const data = BigInt64Array.from(rows.flat(), (value) => BigInt(value));
  return { type: 'int64', dims: [rows.length, rows[0]!.length], data };
}
