import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { CacheRows, type RowHolder, type RowMove } from './cache-rows.js';

const chunk = 4;
const groups = 2;

/** A request, and what its row has to hold: its tokens so far, of which the second group keeps every other chunk's half. */
class Holder implements RowHolder {
  readonly written: number[] = [];
  row = -1;
  constructor(
    readonly prompt: readonly number[],
    readonly key: string | undefined,
  ) {}
  get lengths(): readonly number[] {
    return [this.written.length, Math.floor(this.written.length / 2)];
  }
}

/** Rows and the memory that they stand for. */
class Bed {
  readonly rows: CacheRows<Holder>;
  readonly memory: number[][];
  readonly decoding = new Set<Holder>();
  prefilling: Holder | undefined;

  constructor(count: number) {
    this.rows = new CacheRows(count, chunk, groups);
    this.memory = Array.from({ length: count }, () => []);
  }

  move(move: RowMove | undefined): void {
    if (!move) return;
    assert.notEqual(move.from, move.to);
    const [length] = move.lengths;
    this.memory[move.to]!.splice(0, length!, ...this.memory[move.from]!.slice(0, length));
  }

  write(holder: Holder, row: number, tokens: readonly number[]): void {
    this.memory[row]!.splice(holder.written.length, tokens.length, ...tokens);
    holder.written.push(...tokens);
  }

  begin(holder: Holder): void {
    const { row, chunks, lengths, move } = this.rows.place(holder, holder.prompt, holder.key);
    this.move(move);
    holder.row = row;
    holder.written.push(...holder.prompt.slice(0, chunks * chunk));
    assert.ok(chunks * chunk < holder.prompt.length, 'something is left to compute');
    assert.deepEqual(lengths, holder.lengths);
    assert.deepEqual(this.memory[row]!.slice(0, chunks * chunk), holder.written, 'the prefix is there');
    this.prefilling = holder;
  }

  /** One chunk of whoever is prefilled. */
  prefill(): void {
    const holder = this.prefilling!;
    const tokens = holder.prompt.slice(holder.written.length, holder.written.length + chunk);
    this.write(holder, holder.row, tokens);
    if (tokens.length === chunk && holder.key !== undefined) this.rows.keep(holder.row, tokens, holder.lengths);
    if (holder.written.length < holder.prompt.length) return;
    this.prefilling = undefined;
    this.move(this.rows.join(holder.row));
    this.decoding.add(holder);
  }

  decode(token: number): void {
    for (const [index, holder] of this.rows.batch.entries()) {
      this.write(holder, this.rows.first + index, [token]);
    }
  }

  leave(holder: Holder): void {
    this.move(this.rows.leave(holder));
    this.decoding.delete(holder);
    if (this.prefilling === holder) this.prefilling = undefined;
  }

  check(): void {
    assert.equal(this.rows.count, this.decoding.size);
    assert.deepEqual(new Set(this.rows.batch), this.decoding);
    for (const [index, holder] of this.rows.batch.entries())
      assert.deepEqual(this.memory[this.rows.first + index]!.slice(0, holder.written.length), holder.written);
    const { prefilling } = this;
    if (prefilling)
      assert.deepEqual(this.memory[prefilling.row]!.slice(0, prefilling.written.length), prefilling.written);
    assert.equal(this.rows.free, this.memory.length - this.decoding.size - (prefilling ? 1 : 0));
  }
}

const prompts = [
  [1, 2, 3, 4, 5, 6, 7, 8, 9],
  [1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13],
  [1, 2, 3, 4],
  [1, 2, 3, 4, 0, 0, 0, 0, 0],
  [9, 9],
];

test('whoever comes, goes and decodes, the batch lies together and every row holds what is its own', () => {
  const action = fc.oneof(
    fc.record({
      kind: fc.constant('begin' as const),
      prompt: fc.nat(prompts.length - 1),
      key: fc.constantFrom('a', 'b', undefined),
    }),
    fc.record({ kind: fc.constantFrom('prefill' as const, 'prefill' as const, 'decode' as const) }),
    fc.record({ kind: fc.constant('leave' as const), which: fc.nat(10) }),
  );
  fc.assert(
    fc.property(fc.array(action, { maxLength: 60 }), fc.integer({ min: 1, max: 5 }), (actions, count) => {
      const bed = new Bed(count);
      for (const [step, act] of actions.entries()) {
        if (act.kind === 'begin' && !bed.prefilling && bed.rows.free > 0)
          bed.begin(new Holder(prompts[act.prompt]!, act.key));
        if (act.kind === 'prefill' && bed.prefilling) bed.prefill();
        if (act.kind === 'decode') bed.decode(100 + step);
        if (act.kind === 'leave') {
          const all = [...bed.decoding, ...(bed.prefilling ? [bed.prefilling] : [])];
          if (all.length > 0) bed.leave(all[act.which % all.length]!);
        }
        bed.check();
      }
    }),
    { numRuns: 400 },
  );
});

/** A prompt in a row from beginning to end. */
function through(bed: Bed, prompt: readonly number[], key = 'a'): number {
  const holder = new Holder(prompt, key);
  bed.begin(holder);
  const had = holder.written.length;
  while (bed.prefilling) bed.prefill();
  bed.leave(holder);
  return had;
}

test('one after the other, prompts that take turns keep their prefixes, and those that came long ago go first', () => {
  const bed = new Bed(3);
  const [first, second, third, fourth] = [0, 50, 100, 150].map((from) => Array.from({ length: 9 }, (_, i) => from + i));
  assert.deepEqual(
    [through(bed, first!), through(bed, second!), through(bed, first!), through(bed, second!)],
    [0, 0, 8, 8],
  );
  assert.deepEqual([through(bed, third!), through(bed, fourth!)], [0, 0]);
  assert.deepEqual([through(bed, second!), through(bed, first!)], [8, 0]);
  // Prompts that are treated differently share nothing.
  assert.equal(through(bed, second!, 'b'), 0);
});

test('nobody is moved who does not have to be', () => {
  const bed = new Bed(4);
  const moves: RowMove[] = [];
  bed.move = (move) => void (move && moves.push(move));
  const holders = [1, 2, 3].map((first) => new Holder([first], undefined));
  for (const holder of holders) {
    bed.begin(holder);
    bed.prefill();
  }
  bed.leave(holders[0]!);
  bed.leave(holders[2]!);
  bed.leave(holders[1]!);
  assert.deepEqual(moves, []);
});
