/** Augmentations of a preprocessed image [C, H, W], in place of its pixels; what to do is drawn by the caller's generator. */
import { integerIn, type RandomGenerator } from './random.js';

export interface Augmentation {
  /** Mirrors half of the images from left to right; off where mirroring changes the class, as for digits. */
  readonly flip: boolean;
  /** Shifts by up to so many pixels in both directions, as by padding and a random crop. */
  readonly shift: number;
}

export interface ImageShape {
  readonly channels: number;
  readonly height: number;
  readonly width: number;
}

/**
 * Flips and shifts one image. What comes in from outside is `fill`, one value a channel: black after normalisation is
 * −mean / std.
 */
export function augment(
  pixels: Float32Array,
  { channels, height, width }: ImageShape,
  { flip, shift }: Augmentation,
  fill: readonly number[],
  random: RandomGenerator,
): void {
  const mirrored = flip && integerIn(random, 0, 1) === 1;
  const down = shift > 0 ? integerIn(random, -shift, shift) : 0;
  const right = shift > 0 ? integerIn(random, -shift, shift) : 0;
  if (!mirrored && down === 0 && right === 0) return;
  const original = pixels.slice();
  let at = 0;
  for (let channel = 0; channel < channels; channel++) {
    const outside = fill[channel] ?? 0;
    for (let row = 0; row < height; row++) {
      const fromRow = row - down;
      const start = (channel * height + fromRow) * width;
      for (let column = 0; column < width; column++, at++) {
        const shifted = column - right;
        const inside = fromRow >= 0 && fromRow < height && shifted >= 0 && shifted < width;
        pixels[at] = inside ? (original[start + (mirrored ? width - 1 - shifted : shifted)] as number) : outside;
      }
    }
  }
}
