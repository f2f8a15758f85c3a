import { permutation, randomFor } from '../../data/random.js';
import { invalid } from '../../errors/error.js';
import { normaliseRows } from './probe.js';

/** What a probe is fitted to: patch tokens with their target, and what their images share. */
export interface ProbeSamples {
  /** D. */
  readonly hidden: number;
  /** Residual vectors x of the tokens at the stage, [n, D]. */
  readonly tokens: Float32Array;
  /** Of z = LN(x): the class token of each image, [images, D]. */
  readonly cls: Float32Array;
  /** Of z = LN(x): the mean over the patch tokens of each image, [images, D]. */
  readonly mean: Float32Array;
  /** The image of each row of `tokens`, [n]. */
  readonly image: Int32Array;
  /** The sensitivity s of each row (not negative), or a signed score, [n]. */
  readonly target: Float32Array;
}

/** `log`: log max(s, 1e-12) is predicted. `signed`: the score itself, clipped to ±4σ about its mean. */
export type TargetKind = 'log' | 'signed';

/** A shift and a scale: standardised = (value − mean) / deviation. */
export interface Standard {
  readonly mean: Float64Array;
  readonly deviation: Float64Array;
}

/** Samples made ready: features normalised and standardised by the fit images, images split into fit and held out. */
export interface PreparedSamples {
  readonly hidden: number;
  /** z, not standardised, [n, D]. */
  readonly z: Float32Array;
  /** z standardised, [n, D]. */
  readonly tokens: Float32Array;
  /** Class token and mean token side by side, standardised, [images, 2D]. */
  readonly images: Float32Array;
  /** What is to be predicted, [n]. */
  readonly target: Float64Array;
  /** Of the 3D features in the order token, class token, mean token. */
  readonly features: Standard;
  readonly output: { readonly mean: number; readonly deviation: number };
  /** Rows of each image. */
  readonly rows: readonly Int32Array[];
  /** Images to fit to, and images to judge by; those without rows are in neither. */
  readonly fit: readonly number[];
  readonly heldOut: readonly number[];
}

/** Added to the deviation of a feature, so that one that hardly varies is not blown up. */
const leastDeviation = 1e-3;
const leastSensitivity = 1e-12;
const clipAt = 4;

/**
 * Normalises, splits by image and standardises by what is fitted to alone.
 * @throws HeartwoodError INVALID_ARGUMENT when arrays disagree, or fewer than two images have rows
 */
export function prepareSamples(
  samples: ProbeSamples,
  kind: TargetKind,
  heldOutShare: number,
  seed: number,
): PreparedSamples {
  const { hidden: D, cls, mean } = samples;
  const rows = rowsOfImages(samples);
  const present = rows.flatMap((own, image) => (own.length > 0 ? [image] : []));
  if (present.length < 2) throw invalid(`a probe is fitted to at least two images, got ${present.length}`);
  const order = Array.from(permutation(present.length, randomFor(seed, present.length)), (at) => present[at]!);
  const held = Math.min(order.length - 1, Math.max(1, Math.round(heldOutShare * order.length)));
  const heldOut = order.slice(0, held);
  const fit = order.slice(held);

  const z = normaliseRows(samples.tokens, D);
  const count = fit.reduce((sum, image) => sum + rows[image]!.length, 0);
  const features: Standard = { mean: new Float64Array(3 * D), deviation: new Float64Array(3 * D) };
  standardise(features, 0, z, D, count, function* () {
    for (const image of fit) for (const row of rows[image]!) yield [row, 1];
  });
  const imageRows = function* (): Generator<[number, number]> {
    for (const image of fit) yield [image, rows[image]!.length];
  };
  standardise(features, D, cls, D, count, imageRows);
  standardise(features, 2 * D, mean, D, count, imageRows);

  const { target, output } = outputOf(
    samples.target,
    fit.map((image) => rows[image]!),
    kind,
  );
  const images = new Float32Array((cls.length / D) * 2 * D);
  for (let image = 0; image < rows.length; image++) {
    images.set(standardised(features, D, cls.subarray(image * D, (image + 1) * D)), image * 2 * D);
    images.set(standardised(features, 2 * D, mean.subarray(image * D, (image + 1) * D)), image * 2 * D + D);
  }
  const tokens = new Float32Array(z.length);
  for (let at = 0; at < z.length; at++) {
    const k = at % D;
    tokens[at] = (z[at]! - features.mean[k]!) / features.deviation[k]!;
  }
  return { hidden: D, z, tokens, images, target, features, output, rows, fit, heldOut };
}

function rowsOfImages({ hidden: D, tokens, cls, mean, image, target }: ProbeSamples): Int32Array[] {
  const n = image.length;
  if (tokens.length !== n * D || target.length !== n) {
    throw invalid(`${n} rows of ${D} features go with ${tokens.length} elements and ${target.length} targets`);
  }
  if (cls.length !== mean.length || cls.length % D !== 0) {
    throw invalid(`class and mean tokens have ${cls.length} and ${mean.length} elements, expected rows of ${D}`);
  }
  const lists = Array.from({ length: cls.length / D }, (): number[] => []);
  for (let row = 0; row < n; row++) {
    const list = lists[image[row]!];
    if (!list) throw invalid(`row ${row} is of image ${image[row]}, expected 0 … ${lists.length - 1}`);
    if (!Number.isFinite(target[row])) throw invalid(`the target of row ${row} is ${target[row]}, expected a number`);
    list.push(row);
  }
  return lists.map((list) => Int32Array.from(list));
}

/** Weighted mean and deviation of D features from column `offset` of the standard on; the weights sum to `count`. */
function standardise(
  standard: Standard,
  offset: number,
  values: Float32Array,
  D: number,
  count: number,
  weighted: () => Iterable<readonly [number, number]>,
): void {
  const { mean, deviation } = standard;
  for (const [row, weight] of weighted()) {
    for (let k = 0; k < D; k++) mean[offset + k]! += (weight * values[row * D + k]!) / count;
  }
  for (const [row, weight] of weighted()) {
    for (let k = 0; k < D; k++)
      deviation[offset + k]! += (weight * (values[row * D + k]! - mean[offset + k]!) ** 2) / count;
  }
  for (let k = offset; k < offset + D; k++) deviation[k] = Math.sqrt(deviation[k]!) + leastDeviation;
}

function standardised({ mean, deviation }: Standard, offset: number, values: Float32Array): Float32Array {
  return values.map((value, k) => (value - mean[offset + k]!) / deviation[offset + k]!);
}

function outputOf(
  raw: Float32Array,
  fitRows: readonly Int32Array[],
  kind: TargetKind,
): { target: Float64Array; output: PreparedSamples['output'] } {
  const target = Float64Array.from(raw, (s) => (kind === 'log' ? Math.log(Math.max(s, leastSensitivity)) : s));
  if (kind === 'signed') {
    const { mean, deviation } = momentsOf(target, fitRows);
    const limit = clipAt * deviation;
    for (let i = 0; i < target.length; i++) target[i] = Math.min(mean + limit, Math.max(mean - limit, target[i]!));
  }
  const { mean, deviation } = momentsOf(target, fitRows);
  // A constant target is predicted by its mean alone.
  return { target, output: { mean, deviation: deviation > 0 ? deviation : 1 } };
}

function momentsOf(values: Float64Array, rows: readonly Int32Array[]): { mean: number; deviation: number } {
  let [count, sum, squares] = [0, 0, 0];
  for (const list of rows) for (const row of list) [count, sum] = [count + 1, sum + values[row]!];
  const mean = sum / count;
  for (const list of rows) for (const row of list) squares += (values[row]! - mean) ** 2;
  return { mean, deviation: Math.sqrt(squares / count) };
}
