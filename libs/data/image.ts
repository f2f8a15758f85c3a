/** Encoded images in and out: decoding by libvips (through `sharp`) under a limit of pixels, encoding as PNG. */
import sharp, { type Sharp } from 'sharp';
import { type HeartwoodError, invalid, messageOf } from '../errors/error.js';
import type { RawImage } from './resize.js';

/** Images of more pixels are refused before they are decoded, against decompression bombs. */
export const pixelLimit = 50_000_000;

/** By the bytes that a file begins with. Nothing else reaches libvips, which would also render SVG, decode GIF and more. */
const formats: readonly ((bytes: Uint8Array) => boolean)[] = [
  (jpeg) => startsWith(jpeg, [0xff, 0xd8, 0xff]),
  (png) => startsWith(png, [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]),
  (webp) => startsWith(webp, [0x52, 0x49, 0x46, 0x46]) && startsWith(webp.subarray(8), [0x57, 0x45, 0x42, 0x50]),
];

function startsWith(bytes: Uint8Array, magic: readonly number[]): boolean {
  return magic.every((value, at) => bytes[at] === value);
}

// Every image is read once: libvips' cache of recent operations would only hold memory.
sharp.cache(false);

/**
 * Decodes a JPEG, PNG or WebP image to 8 bits, upright (EXIF orientation applied), as RGB or as grey values. An alpha channel is
 * dropped and a colour profile ignored, as Pillow's `convert('RGB')` does.
 * Throws INVALID_ARGUMENT on a broken image, naming `name`, or one beyond the pixel limit.
 */
export async function decodeImage(bytes: Uint8Array, channels: 1 | 3, name: string): Promise<RawImage> {
  try {
    const { data, info } = await open(bytes)
      .autoOrient()
      .toColourspace('srgb')
      .removeAlpha()
      .raw({ depth: 'uchar' })
      .toBuffer({ resolveWithObject: true });
    const raw = {
      data: new Uint8Array(data.buffer, data.byteOffset, data.length),
      width: info.width,
      height: info.height,
    };
    return info.channels === channels ? { ...raw, channels } : convert({ ...raw, channels: info.channels }, channels);
  } catch (error) {
    throw undecodable(name, error);
  }
}

/** Pixels of an encoded image, from its header alone. Throws as {@link decodeImage}. */
export async function countPixels(bytes: Uint8Array, name: string): Promise<number> {
  try {
    const { width, height } = await open(bytes).metadata();
    return width * height;
  } catch (error) {
    throw undecodable(name, error);
  }
}

function open(bytes: Uint8Array): Sharp {
  if (!formats.some((matches) => matches(bytes))) throw new Error('it is in none of these formats');
  return sharp(bytes, { limitInputPixels: pixelLimit, failOn: 'error', ignoreIcc: true });
}

function undecodable(name: string, error: unknown): HeartwoodError {
  // libvips says the same once for every attempt to go on, at first behind where it was said.
  const said: string[] = [];
  for (const line of messageOf(error).split('\n')) {
    const text = line.trim().replaceAll(/\s+/g, ' ');
    if (text !== '' && !said.some((earlier) => earlier.endsWith(text))) said.push(text);
  }
  return invalid(
    `${name} is not an image that can be decoded (JPEG, PNG or WebP of at most ${pixelLimit / 1e6} megapixels): ` +
      said.join('; '),
    error,
  );
}

/** Grey to RGB by repetition, RGB to grey by ITU-R 601-2 luma in Pillow's fixed point. */
export function convert(image: RawImage, channels: 1 | 3): RawImage {
  const { width, height } = image;
  if (image.channels === channels) return image;
  const area = width * height;
  const data = new Uint8Array(area * channels);
  for (let at = 0; at < area; at++) {
    const from = at * image.channels;
    if (channels === 3) data.fill(image.data[from] as number, at * 3, at * 3 + 3);
    else {
      const [red, green, blue] = [image.data[from], image.data[from + 1], image.data[from + 2]] as [
        number,
        number,
        number,
      ];
      data[at] = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16;
    }
  }
  return { data, width, height, channels };
}

/** A PNG file of an 8-bit grey or RGB image. */
export async function encodePng({ data, width, height, channels }: RawImage): Promise<Uint8Array> {
  const raw = { width, height, channels: channels as 1 | 3 };
  const png = await sharp(data, { raw }).png({ compressionLevel: 6 }).toBuffer();
  return new Uint8Array(png.buffer, png.byteOffset, png.length);
}
