/**
 * A WebAssembly module that reads memory as fast as a core can: 128 bytes a turn into eight independent sums of 16-byte vectors. Its one function,
 * `read(from, to)`, gives the sum of the 32-bit words of [from, to), a multiple of 128 bytes; its memory is imported.
 */
const block = 128;
const lanes = block / 16;

/** LEB128. */
function unsigned(value: number): number[] {
  const bytes: number[] = [];
  for (let rest = value; ;) {
    const low = rest & 127;
    rest >>>= 7;
    if (rest === 0) return [...bytes, low];
    bytes.push(low | 128);
  }
}

const section = (id: number, content: readonly number[]): number[] => [id, ...unsigned(content.length), ...content];
const text = (value: string): number[] => [value.length, ...Buffer.from(value)];
const [i32, v128] = [0x7f, 0x7b];
const get = (local: number): number[] => [0x20, local];
const set = (local: number): number[] => [0x21, local];
const vector = (code: number): number[] => [0xfd, ...unsigned(code)];
const i32x4Add = vector(0xae);

/** v128.load of the address on the stack and an offset. */
const load = (offset: number): number[] => [...vector(0), 4, ...unsigned(offset)];

/** The module's bytes; `pages` is the size of its memory in units of 64 KiB. */
export function readerModule(pages: number): Uint8Array {
  const [from, to, first] = [0, 1, 2];
  const sums = Array.from({ length: lanes }, (_, lane) => first + lane);
  const total = [...get(first), ...sums.slice(1).flatMap((sum) => [...get(sum), ...i32x4Add])];
  const turn = [
    ...sums.flatMap((sum, lane) => [...get(from), ...load(16 * lane), ...get(sum), ...i32x4Add, ...set(sum)]),
    // from += block; go on while from < to
    ...[...get(from), 0x41, ...signed(block), 0x6a, ...set(from)],
    ...[...get(from), ...get(to), 0x49, 0x0d, 0],
  ];
  const extract = (lane: number): number[] => [...get(first), ...vector(27), lane];
  const body = [
    ...[0x03, 0x40, ...turn, 0x0b],
    ...[...total, ...set(first)],
    ...[...extract(0), ...extract(1), 0x6a, ...extract(2), 0x6a, ...extract(3), 0x6a],
    0x0b,
  ];
  const code = [1, ...unsigned(lanes), v128, ...body];
  return Uint8Array.from([
    ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, [1, 0x60, 2, i32, i32, 1, i32]),
    ...section(2, [1, ...text('m'), ...text('m'), 2, 3, ...unsigned(pages), ...unsigned(pages)]),
    ...section(3, [1, 0]),
    ...section(7, [1, ...text('read'), 0, 0]),
    ...section(10, [1, ...unsigned(code.length), ...code]),
  ]);
}

/** Signed LEB128 of a number that is not negative. */
function signed(value: number): number[] {
  const bytes = unsigned(value);
  return (bytes.at(-1)! & 64) === 0 ? bytes : [...bytes.slice(0, -1), bytes.at(-1)! | 128, 0];
}

export const bytesOfTurn = block;
