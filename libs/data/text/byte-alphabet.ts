/**
 * The alphabet of byte-level BPE (Radford et al. 2019, "Language models are unsupervised multitask learners", its `bytes_to_unicode`):
 * every byte is a printable character of the vocabulary's strings. Bytes that print as Latin-1 are themselves, the others are
 * U+0100 and up in their order, so that a space is Ġ.
 */

/** The character of each byte. */
export const characterOf: readonly string[] = alphabet();

const byteOf: ReadonlyMap<string, number> = new Map(characterOf.map((character, byte) => [character, byte]));

function alphabet(): string[] {
  const printable = (byte: number) =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(printable(byte) ? byte : next++));
}

const utf8 = new TextEncoder();

/** The bytes that a string of the vocabulary stands for: its own UTF-8 where it has a character beyond the alphabet, as an added token may. */
export function bytesOfToken(token: string): Uint8Array {
  const bytes = new Uint8Array(token.length);
  for (let at = 0; at < token.length; at++) {
    const byte = byteOf.get(token[at] as string);
    if (byte === undefined) return utf8.encode(token);
    bytes[at] = byte;
  }
  return bytes;
}
