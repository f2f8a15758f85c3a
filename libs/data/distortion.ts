/** Random affine distortion of a small grey image: another hand writing the same digit. */
import { integerIn, type RandomGenerator } from './random.js';

/** At amount 1: turned by up to 15°, scaled by up to 15 % either way in each direction, slanted by up to 0.2. */
const turn = (15 * Math.PI) / 180;
const stretch = 0.15;
const slant = 0.2;

/** A uniform number of [−1, 1]. */
function signed(random: RandomGenerator): number {
  return integerIn(random, -1_000_000, 1_000_000) / 1_000_000;
}

/**
 * Maps an image of side² grey values about its middle by a random matrix, with bilinear interpolation; outside is black. Amount 0
 * gives the image itself and draws nothing.
 */
export function distort(image: Uint8Array, side: number, amount: number, random: RandomGenerator): Uint8Array {
  if (amount === 0) return image;
  const angle = amount * turn * signed(random);
  const [down, right] = [1 + amount * stretch * signed(random), 1 + amount * stretch * signed(random)];
  const shear = amount * slant * signed(random);
  // Output to input: rotation ∘ slant ∘ scale.
  const [cosine, sine] = [Math.cos(angle), Math.sin(angle)];
  const rowByRow = cosine * down;
  const rowByColumn = (cosine * shear - sine) * right;
  const columnByRow = sine * down;
  const columnByColumn = (sine * shear + cosine) * right;
  const middle = (side - 1) / 2;
  const output = new Uint8Array(side * side);
  const at = (row: number, column: number) =>
    row >= 0 && row < side && column >= 0 && column < side ? (image[row * side + column] as number) : 0;
  for (let row = 0; row < side; row++) {
    for (let column = 0; column < side; column++) {
      const fromRow = middle + rowByRow * (row - middle) + rowByColumn * (column - middle);
      const fromColumn = middle + columnByRow * (row - middle) + columnByColumn * (column - middle);
      const [top, left] = [Math.floor(fromRow), Math.floor(fromColumn)];
      const [below, beside] = [fromRow - top, fromColumn - left];
      const upper = at(top, left) * (1 - beside) + at(top, left + 1) * beside;
      const lower = at(top + 1, left) * (1 - beside) + at(top + 1, left + 1) * beside;
      output[row * side + column] = Math.round(upper * (1 - below) + lower * below);
    }
  }
  return output;
}
