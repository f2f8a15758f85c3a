/**
 * Resampling of 8-bit images exactly as Pillow does it (Pillow, src/libImaging/Resample.c), because checkpoints are trained on
 * what Hugging Face's image processors make with Pillow: a separable filter whose support grows with the reduction
 * (antialiasing), coefficients in fixed point, and a rounding to 8 bits between the passes. libvips, behind `sharp`, shrinks by
 * boxes first and so differs by several grey values.
 */
export type Resampling = 'nearest' | 'bilinear' | 'bicubic' | 'lanczos';

interface Filter {
  readonly support: number;
  weight(x: number): number;
}

const sinc = (x: number) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));

const filters: Readonly<Record<Exclude<Resampling, 'nearest'>, Filter>> = {
  // The triangle 1 − |x|.
  bilinear: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  // Keys' cubic with a = −½.
  bicubic: {
    support: 2,
    weight: (x) => {
      const t = Math.abs(x);
      if (t < 1) return (1.5 * t - 2.5) * t * t + 1;
      return t < 2 ? ((-0.5 * t + 2.5) * t - 4) * t + 2 : 0;
    },
  },
  // sinc(x) sinc(x / 3).
  lanczos: { support: 3, weight: (x) => (Math.abs(x) < 3 ? sinc(x) * sinc(x / 3) : 0) },
};

/** Bits behind the binary point of the coefficients: 32 less 8 of the pixel less 2 against overflow. */
const precision = 22;

interface Taps {
  /** Coefficients per output position; the taps of one position are contiguous. */
  readonly width: number;
  readonly first: Int32Array;
  readonly count: Int32Array;
  readonly coefficients: Int32Array;
}

function taps(from: number, to: number, filter: Filter): Taps {
  const scale = from / to;
  const stretch = Math.max(scale, 1);
  const support = filter.support * stretch;
  const width = Math.ceil(support) * 2 + 1;
  const first = new Int32Array(to);
  const count = new Int32Array(to);
  const coefficients = new Int32Array(to * width);
  for (let position = 0; position < to; position++) {
    const centre = (position + 0.5) * scale;
    const start = Math.max(0, Math.trunc(centre - support + 0.5));
    const end = Math.min(from, Math.trunc(centre + support + 0.5));
    const weights = Array.from({ length: end - start }, (_, tap) =>
      filter.weight((tap + start - centre + 0.5) / stretch),
    );
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    first[position] = start;
    count[position] = end - start;
    weights.forEach((weight, tap) => {
      const scaled = (total === 0 ? weight : weight / total) * 2 ** precision;
      coefficients[position * width + tap] = Math.trunc(scaled + (scaled < 0 ? -0.5 : 0.5));
    });
  }
  return { width, first, count, coefficients };
}

/** One pass along one axis: `lines` × `length` positions that are `step` apart within a line and `stride` between lines. */
function pass(
  input: Uint8Array,
  output: Uint8Array,
  layout: PassLayout,
  { width, first, count, coefficients }: Taps,
): void {
  const { lines, inputLine, outputLine, step, channels, length } = layout;
  const half = 1 << (precision - 1);
  for (let line = 0; line < lines; line++) {
    for (let position = 0; position < length; position++) {
      const start = inputLine * line + (first[position] as number) * step;
      const number = count[position] as number;
      const at = position * width;
      for (let channel = 0; channel < channels; channel++) {
        let sum = half;
        for (let tap = 0; tap < number; tap++) {
          sum += (input[start + tap * step + channel] as number) * (coefficients[at + tap] as number);
        }
        const value = sum >> precision;
        output[outputLine * line + position * step + channel] = value < 0 ? 0 : value > 255 ? 255 : value;
      }
    }
  }
}

interface PassLayout {
  readonly lines: number;
  readonly length: number;
  readonly inputLine: number;
  readonly outputLine: number;
  readonly step: number;
  readonly channels: number;
}

export interface RawImage {
  /** Interleaved, [height, width, channels]. */
  readonly data: Uint8Array;
  readonly width: number;
  readonly height: number;
  readonly channels: number;
}

function nearest(image: RawImage, height: number, width: number): RawImage {
  const { channels } = image;
  const data = new Uint8Array(height * width * channels);
  for (let row = 0; row < height; row++) {
    const fromRow = Math.trunc(((row + 0.5) * image.height) / height);
    for (let column = 0; column < width; column++) {
      const from = (fromRow * image.width + Math.trunc(((column + 0.5) * image.width) / width)) * channels;
      for (let channel = 0; channel < channels; channel++) {
        data[(row * width + column) * channels + channel] = image.data[from + channel] as number;
      }
    }
  }
  return { data, width, height, channels };
}

/** Resizes to `height` × `width`, bit for bit as `PIL.Image.resize` with the same filter. */
export function resizeImage(image: RawImage, height: number, width: number, resampling: Resampling): RawImage {
  if (image.width === width && image.height === height) return image;
  if (resampling === 'nearest') return nearest(image, height, width);
  const filter = filters[resampling];
  const { channels } = image;
  let current = image;
  // Pillow's order: horizontally, then vertically; an axis that keeps its length is left alone.
  if (current.width !== width) {
    const data = new Uint8Array(current.height * width * channels);
    const layout = {
      lines: current.height,
      length: width,
      inputLine: current.width * channels,
      outputLine: width * channels,
    };
    pass(current.data, data, { ...layout, step: channels, channels }, taps(current.width, width, filter));
    current = { data, width, height: current.height, channels };
  }
  if (current.height !== height) {
    const row = width * channels;
    const data = new Uint8Array(height * row);
    // Columns and channels alike are lines of the vertical pass: one value apart, a row between positions.
    const layout = { lines: row, length: height, inputLine: 1, outputLine: 1, step: row, channels: 1 };
    pass(current.data, data, layout, taps(current.height, height, filter));
    current = { data, width, height, channels };
  }
  return current;
}
