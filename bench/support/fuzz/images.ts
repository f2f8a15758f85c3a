/** Files that are no images, or worse ones than they say. */
import { crc32, deflateSync } from 'node:zlib';
import { flipped, spliced, truncated, type Draw } from './random.js';

/** A PNG whose header says so many pixels, and whose data are `rows` rows of zeros, which compress a thousandfold. */
export function pngOf(width: number, height: number, rows: number): Uint8Array {
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, 0, 0, 0, 0], 8);
  const data = deflateSync(Buffer.alloc(rows * (width + 1)), { level: 9 });
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  return Buffer.concat([signature, chunk('IHDR', header), chunk('IDAT', data), chunk('IEND', Buffer.alloc(0))]);
}

function chunk(type: string, data: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(data.length);
  const body = Buffer.concat([Buffer.from(type, 'latin1'), data]);
  const sum = Buffer.alloc(4);
  sum.writeUInt32BE(crc32(body) >>> 0);
  return Buffer.concat([length, body, sum]);
}

const text = (content: string): Uint8Array => Buffer.from(content, 'latin1');
const bomb =
  '<!DOCTYPE s [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;">]>';

/** Each is refused. */
export const hostileImages: readonly ((draw: Draw, image: Uint8Array) => Uint8Array)[] = [
  () => pngOf(60_000, 60_000, 1),
  () => pngOf(0x7fffffff, 0x7fffffff, 0),
  () => pngOf(0, 0, 0),
  () => pngOf(30_000, 1_600, 1),
  (_, image) => image.slice(0, image.length >> 1),
  () => text(`${bomb}<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><text>&c;</text></svg>`),
  () => text('<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd" width="9" height="9"/></svg>'),
  () => text('GIF89a\xff\xff\xff\xff\x80\x00\x00'),
  (draw) => Buffer.concat([text('II*\x00\x08\x00\x00\x00'), draw.bytes(200)]),
  () => text('%PDF-1.7\n1 0 obj <</Type/Catalog>> endobj'),
  (draw) => Buffer.concat([Buffer.from([0xff, 0xd8, 0xff, 0xe0]), draw.bytes(300)]),
  (draw) => Buffer.concat([text('RIFF\xff\xff\xff\xffWEBPVP8 '), draw.bytes(300)]),
  (draw) => Buffer.concat([text('RIFF\x10\x00\x00\x00WEBPVP8X\xff\xff\xff\xff\x10'), draw.bytes(40)]),
  (draw) => draw.bytes(draw.integer(0, 64)),
  () => new Uint8Array(),
];

/** Each may be an image still. */
export const damagedImages: readonly ((draw: Draw, image: Uint8Array) => Uint8Array)[] = [flipped, spliced, truncated];
