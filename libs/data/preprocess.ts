/**
 * From an image to the tensor that a checkpoint expects, step by step as Hugging Face's image processors: resize, centre crop,
 * rescale, normalise. Against transformers 5.18 with Pillow the tensors agree to 1e-6 for PNG; for JPEG as far as the two JPEG
 * decoders agree (libjpeg-turbo behind both: bit for bit where seen). The fixtures of the tests are its output.
 */
import { invalid } from '../errors/error.js';
import type { ImagePreprocessing } from '../models/preprocessing.js';
import { convert, decodeImage } from './image.js';
import { resizeImage, type RawImage } from './resize.js';

/** Height and width of the tensor that preprocessing makes. */
export function outputSize(preprocessing: ImagePreprocessing): { height: number; width: number } {
  return preprocessing.crop ?? preprocessing.size;
}

/**
 * Decodes and preprocesses an encoded image (JPEG, PNG, WebP): float32 [C, H, W]. `name` is what an error calls it.
 * Throws INVALID_ARGUMENT on a broken image or one of more than 50 megapixels.
 */
export async function preprocessImage(
  bytes: Uint8Array,
  preprocessing: ImagePreprocessing,
  name = 'the image',
): Promise<Float32Array> {
  return preprocessPixels(await decodeImage(bytes, preprocessing.channels, name), preprocessing, name);
}

/** Preprocesses 8-bit pixels [H, W, C]: float32 [C, H', W']. */
export function preprocessPixels(image: RawImage, preprocessing: ImagePreprocessing, name = 'the image'): Float32Array {
  const { size, crop, channels, resample } = preprocessing;
  let current = convert(image, channels);
  if (preprocessing.resize) current = resizeImage(current, size.height, size.width, resample);
  if (crop) current = centreCrop(current, crop.height, crop.width);
  const { height, width } = outputSize(preprocessing);
  if (current.height !== height || current.width !== width) {
    throw invalid(
      `${name} is ${current.width}×${current.height} pixels, expected ${width}×${height}: the checkpoint's ` +
        'preprocessor_config.json does not resize (do_resize is false)',
    );
  }
  return normalise(current, preprocessing);
}

/** The middle height × width; what lies outside of the image is 0, as in Hugging Face's center_crop. */
function centreCrop(image: RawImage, height: number, width: number): RawImage {
  const top = Math.floor((image.height - height) / 2);
  const left = Math.floor((image.width - width) / 2);
  const data = new Uint8Array(height * width * image.channels);
  const from = Math.max(0, left);
  const to = Math.min(image.width, left + width);
  for (let row = Math.max(0, -top); row < Math.min(height, image.height - top); row++) {
    const source = (row + top) * image.width;
    const target = row * width + from - left;
    data.set(
      image.data.subarray((source + from) * image.channels, (source + to) * image.channels),
      target * image.channels,
    );
  }
  return { data, width, height, channels: image.channels };
}

/** (value · rescale − mean) / std by channel, [H, W, C] → [C, H, W]; through a table, as there are only 256 values. */
function normalise(image: RawImage, { rescale, mean, std }: ImagePreprocessing): Float32Array {
  const { data, channels } = image;
  const area = image.height * image.width;
  const output = new Float32Array(channels * area);
  for (let channel = 0; channel < channels; channel++) {
    const table = Float32Array.from({ length: 256 }, (_, value) => {
      const scaled = rescale === 0 ? value : value * rescale;
      return (scaled - (mean[channel] ?? 0)) / (std[channel] ?? 1);
    });
    for (let at = 0; at < area; at++)
      output[channel * area + at] = table[data[at * channels + channel] as number] as number;
  }
  return output;
}
