/**
 * The rows of the cache: which request is in which, and what is left in those of requests that have gone. Requests that decode lie next to
 * each other, so that one view is the batch: somebody leaving from their middle is made up for by moving one of the ends there. What a
 * prompt left in a row serves later prompts that begin alike, up to a border of its chunks: from a chunk's border on everything is computed
 * as if there had been no other prompt.
 */

/** What a row holds of a prompt. */
interface Kept {
  /** Tokens of whole chunks. */
  readonly tokens: readonly number[];
  /** By chunk: how many tokens each cache group held after it. */
  readonly borders: readonly (readonly number[])[];
  /** Prompts share only with those that were treated alike. */
  readonly key: string;
}

const nothing: Kept = { tokens: [], borders: [], key: '' };

/** A row's tokens onto another row; `lengths` by cache group. */
export interface RowMove {
  readonly from: number;
  readonly to: number;
  readonly lengths: readonly number[];
}

export interface Placement {
  readonly row: number;
  /** Chunks of the prompt that are there already. */
  readonly chunks: number;
  /** Tokens of each group in the row. */
  readonly lengths: readonly number[];
  /** Needed before the row is as said. */
  readonly move: RowMove | undefined;
}

/** Whoever is in a row. */
export interface RowHolder {
  /** Tokens that each cache group holds of it. */
  readonly lengths: readonly number[];
}

interface Row<Holder> {
  holder: Holder | undefined;
  kept: Kept;
  /** When what it keeps was last of use; 0: of none, it is elsewhere too or nothing. */
  used: number;
}

export class CacheRows<Holder extends RowHolder> {
  readonly #rows: Row<Holder>[];
  /** The decoding rows are [first, first + count). */
  #first = 0;
  #count = 0;
  #clock = 0;

  /**
   * @param rows how many there are
   * @param chunk tokens of a chunk of a prompt
   * @param groups cache groups
   */
  constructor(
    rows: number,
    private readonly chunk: number,
    private readonly groups: number,
  ) {
    this.#rows = Array.from({ length: rows }, () => ({ holder: undefined, kept: nothing, used: 0 }));
  }

  get first(): number {
    return this.#first;
  }

  /** Requests that decode. */
  get count(): number {
    return this.#count;
  }

  /** The requests that decode, in the order of their rows. */
  get batch(): readonly Holder[] {
    return this.#rows.slice(this.#first, this.#first + this.#count).map(({ holder }) => holder!);
  }

  get free(): number {
    return this.#rows.reduce((sum, { holder }) => sum + (holder === undefined ? 1 : 0), 0);
  }

  /** Forgets everything: the memory is new. Nobody may be in it. */
  clear(): void {
    for (const row of this.#rows) Object.assign(row, { holder: undefined, kept: nothing, used: 0 });
    this.#first = 0;
    this.#count = 0;
  }

  /**
   * Gives a request a row to be prefilled in; there has to be a free one. At least one token of the prompt is left to be computed, since
   * its logits are what comes next.
   * @param key undefined: the prompt shares with none
   */
  place(holder: Holder, prompt: readonly number[], key: string | undefined): Placement {
    const most = Math.floor((prompt.length - 1) / this.chunk);
    let source = -1;
    let chunks = 0;
    for (const [index, row] of this.#rows.entries()) {
      if (key === undefined || row.kept.key !== key) continue;
      const shared = this.#shared(row.kept, prompt, most);
      const better = shared > chunks || (shared === chunks && shared > 0 && this.#rows[source]!.holder && !row.holder);
      if (better) [source, chunks] = [index, shared];
    }
    const inPlace = source >= 0 && this.#rows[source]!.holder === undefined;
    const index = inPlace ? source : this.#choose();
    const row = this.#rows[index]!;
    const kept = chunks > 0 ? cut(this.#rows[source]!.kept, chunks, this.chunk) : { ...nothing, key: key ?? '' };
    if (source >= 0) this.#rows[source]!.used = ++this.#clock;
    row.holder = holder;
    row.kept = kept;
    row.used = ++this.#clock;
    const lengths = kept.borders[chunks - 1] ?? new Array<number>(this.groups).fill(0);
    const move = chunks > 0 && !inPlace ? { from: source, to: index, lengths } : undefined;
    return { row: index, chunks, lengths, move };
  }

  /** A whole chunk of a prompt has been computed, and may be shared. */
  keep(index: number, tokens: readonly number[], lengths: readonly number[]): void {
    const row = this.#rows[index]!;
    const { kept } = row;
    row.kept = { ...kept, tokens: [...kept.tokens, ...tokens], borders: [...kept.borders, [...lengths]] };
  }

  /** The prompt in this row is done: its request decodes from now on. */
  join(index: number): RowMove | undefined {
    const target = this.#count === 0 ? index : this.#beside(index);
    if (this.#count === 0 || target < this.#first) this.#first = target;
    this.#count++;
    return this.#move(index, target);
  }

  /** A request goes, from wherever it is; its row keeps what may be shared. */
  leave(holder: Holder): RowMove | undefined {
    const index = this.#rows.findIndex((row) => row.holder === holder);
    if (index < 0) return undefined;
    this.#rows[index]!.holder = undefined;
    const last = this.#first + this.#count - 1;
    if (index < this.#first || index > last) return undefined;
    this.#count--;
    if (index === last) return undefined;
    if (index === this.#first) {
      this.#first++;
      return undefined;
    }
    // The end that is cheaper to move.
    const size = (row: number): number => this.#rows[row]!.holder!.lengths.reduce((sum, length) => sum + length, 0);
    const end = size(this.#first) < size(last) ? this.#first : last;
    if (end === this.#first) this.#first++;
    return this.#move(end, index);
  }

  #move(from: number, to: number): RowMove | undefined {
    if (from === to) return undefined;
    const [source, target] = [this.#rows[from]!, this.#rows[to]!];
    const holder = source.holder!;
    Object.assign(target, { holder, kept: source.kept, used: ++this.#clock });
    // What it keeps is elsewhere too, so it is the first to be given away.
    Object.assign(source, { holder: undefined, used: 0 });
    return { from, to, lengths: [...holder.lengths] };
  }

  /** The row beside those that decode: this one if it is, else the one whose contents were longest of no use. */
  #beside(index: number): number {
    const sides = [this.#first + this.#count, this.#first - 1].filter((row) => {
      const there = this.#rows[row];
      return there !== undefined && (row === index || there.holder === undefined);
    });
    if (sides.includes(index)) return index;
    return sides.reduce((best, row) => (this.#rows[row]!.used < this.#rows[best]!.used ? row : best));
  }

  /** The free row whose contents were longest of no use; of several one beside those that decode. */
  #choose(): number {
    const beside = (row: number): boolean => row === this.#first + this.#count || row === this.#first - 1;
    let best = -1;
    for (const [index, { holder, used }] of this.#rows.entries()) {
      if (holder !== undefined) continue;
      const least = best < 0 ? Infinity : this.#rows[best]!.used;
      if (used < least || (used === least && beside(index) && !beside(best))) best = index;
    }
    return best;
  }

  /** Whole chunks that both begin with, at most so many. */
  #shared(kept: Kept, prompt: readonly number[], most: number): number {
    const limit = Math.min(most, kept.borders.length) * this.chunk;
    let at = 0;
    while (at < limit && kept.tokens[at] === prompt[at]) at++;
    return Math.floor(at / this.chunk);
  }
}

function cut(kept: Kept, chunks: number, chunk: number): Kept {
  return { ...kept, tokens: kept.tokens.slice(0, chunks * chunk), borders: kept.borders.slice(0, chunks) };
}
