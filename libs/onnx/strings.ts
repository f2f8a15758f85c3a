/**
 * The bytes of a string tensor in the IR, whose data is one byte array: for each string its length in UTF-8 as a little-endian
 * uint32, then the UTF-8 itself. The ONNX file holds the strings apart (TensorProto.string_data); reader and writer convert.
 */

/** Packs strings into the bytes of an inline tensor of type string. */
export function encodeStrings(strings: readonly string[]): Uint8Array {
  const texts = strings.map((text) => Buffer.from(text, 'utf8'));
  const bytes = Buffer.alloc(texts.reduce((sum, text) => sum + 4 + text.length, 0));
  let offset = 0;
  for (const text of texts) {
    offset = bytes.writeUInt32LE(text.length, offset);
    offset += text.copy(bytes, offset);
  }
  return bytes;
}

/** The strings of such bytes. Throws a RangeError where they are cut short. */
export function decodeStrings(bytes: Uint8Array): string[] {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const strings: string[] = [];
  for (let offset = 0; offset < view.length;) {
    const length = view.readUInt32LE(offset);
    offset += 4;
    if (offset + length > view.length) throw new RangeError('a string runs beyond the end of its tensor');
    strings.push(view.toString('utf8', offset, offset + length));
    offset += length;
  }
  return strings;
}
