/**
 * What a message comes to in memory when it is decoded, estimated from its bytes without decoding it. Two bytes of a message can say
 * "another empty input", which takes hundreds: a limit on the length of messages alone lets one of them exhaust the heap, and with it
 * end the process.
 *
 * On the way texts are checked: JavaScript decodes bytes that are no UTF-8 to U+FFFD without a word, where protobuf wants them refused.
 */
import { isUtf8 } from 'node:buffer';
import { type DescField, type DescMessage, ScalarType } from '@bufbuild/protobuf';
import { BinaryReader, WireType } from '@bufbuild/protobuf/wire';

/** Bytes on the heap, rounded up: of an object with its empty lists, of a view of bytes, of a string, of an element of a list. */
const cost = { object: 512, view: 384, text: 64, number: 16, bigint: 48 } as const;

/** Bytes that the shortest encoding of an element of a packed list takes, and what the element costs. */
function packedElement(scalar: ScalarType | undefined): { bytes: number; heap: number } {
  switch (scalar) {
    case ScalarType.DOUBLE:
      return { bytes: 8, heap: cost.number };
    case ScalarType.FLOAT:
    case ScalarType.FIXED32:
    case ScalarType.SFIXED32:
      return { bytes: 4, heap: cost.number };
    case ScalarType.FIXED64:
    case ScalarType.SFIXED64:
      return { bytes: 8, heap: cost.bigint };
    case ScalarType.INT64:
    case ScalarType.UINT64:
    case ScalarType.SINT64:
      return { bytes: 1, heap: cost.bigint };
    default:
      return { bytes: 1, heap: cost.number };
  }
}

/**
 * Bytes on the heap that `bytes`, a message of this kind, decode to, about; it stops counting beyond `limit`.
 * Throws where it is no message, and {@link NotText} where a text in it is none.
 */
export function weightOf(bytes: Uint8Array, kind: DescMessage, limit: number): number {
  const fields = new Map(kind.fields.map((field) => [field.number, field]));
  const reader = new BinaryReader(bytes);
  let weight: number = cost.object;
  while (reader.pos < reader.len && weight <= limit) {
    const [number, wire] = reader.tag();
    const field = fields.get(number);
    if (field === undefined || wire !== WireType.LengthDelimited) {
      reader.skip(wire, number);
      if (field !== undefined) weight += packedElement(field.scalar).heap;
      continue;
    }
    weight += weightOfField(reader.bytes(), field, limit - weight);
  }
  return weight;
}

/** Of one that has a length: a text, bytes, a message, an entry of a map, or numbers side by side. */
function weightOfField(content: Uint8Array, field: DescField, limit: number): number {
  if (field.message !== undefined && field.fieldKind !== 'map') return weightOf(content, field.message, limit);
  if (field.fieldKind === 'map') {
    checkEntry(content, field, limit);
    return 2 * cost.object + 2 * content.length;
  }
  if (field.scalar === ScalarType.BYTES) return cost.view;
  if (field.scalar === ScalarType.STRING) {
    checkText(content, field);
    return cost.text + 2 * content.length;
  }
  const { bytes, heap } = packedElement(field.scalar);
  return Math.ceil(content.length / bytes) * heap;
}

/** A field that holds a text by its type, and bytes that are none. */
export class NotText extends Error {
  constructor(readonly field: string) {
    super(`${field}: not UTF-8`);
  }
}

function checkText(content: Uint8Array, { name }: DescField): void {
  if (!isUtf8(content)) throw new NotText(name);
}

/** An entry of a map is a message of a key, 1, and a value, 2. */
function checkEntry(entry: Uint8Array, field: DescField & { fieldKind: 'map' }, limit: number): void {
  const reader = new BinaryReader(entry);
  while (reader.pos < reader.len) {
    const [number, wire] = reader.tag();
    if (wire !== WireType.LengthDelimited) {
      reader.skip(wire, number);
      continue;
    }
    const content = reader.bytes();
    if (number === 2 && field.message !== undefined) weightOf(content, field.message, limit);
    else if ((number === 1 ? field.mapKey : field.scalar) === ScalarType.STRING) checkText(content, field);
  }
}
