import { countPixels } from '../../../libs/data/image.js';
import { invalid } from '../../../libs/errors/error.js';
import type { ImagePreprocessing } from '../../../libs/models/preprocessing.js';
import { release } from '../../../libs/runtime/release.js';
import type { TensorValue } from '../../../libs/runtime/tensor.js';
import type { CallContents } from './call.js';
import { type BudgetPolicy, budgetTensor, namedBudget } from './budget.js';
import { BUDGET, IMAGE, PIXELS, type ServedClassifier } from '../catalog/served-version.js';
import { toTensorValue, type WireTensor } from './wire-tensor.js';

/** What a request comes to for the session. */
export interface Feeds {
  readonly tensors: Record<string, TensorValue>;
  readonly batch: number;
  /** Nats of each sample; undefined where the version has no such input. */
  readonly budget: readonly number[] | undefined;
}

/** What feeds are made with. */
export interface FeedMaker {
  readonly maxBatch: number;
  /** Of the encoded images of one request in all. */
  readonly maxImagePixels: number;
  readonly budgets: BudgetPolicy;
  preprocess(
    bytes: Uint8Array,
    preprocessing: ImagePreprocessing,
    name: string,
    signal: AbortSignal,
  ): Promise<Float32Array>;
}

/**
 * Checks a call's inputs and makes the session's feeds of them: encoded images preprocessed, the budget filled in. All that is cheap is checked before the first image is decoded.
 * Throws INVALID_ARGUMENT naming the input.
 */
export async function makeFeeds(
  maker: FeedMaker,
  served: ServedClassifier,
  { inputs, budget: asked }: CallContents,
  signal: AbortSignal,
): Promise<Feeds> {
  checkNames(inputs, served);
  const batch = batchOf(inputs, maker.maxBatch);
  const budget = budgetsOf(maker, served, asked, inputs.get(BUDGET), batch);
  const tensors: Record<string, TensorValue> = {};
  for (const [name, input] of inputs) {
    if (name === IMAGE || name === BUDGET) continue;
    checkFinite(input);
    tensors[name] = toTensorValue(input);
  }
  const images = inputs.get(IMAGE);
  if (images) tensors[PIXELS] = await pixelsOf(maker, served, images, signal);
  if (budget) tensors[BUDGET] = { type: 'float32', dims: [batch, 1], data: budget };
  // A list of its own: the tensors' buffers go to the worker.
  return { tensors, batch, budget: budget && Array.from(budget) };
}

function checkNames(inputs: ReadonlyMap<string, WireTensor>, served: ServedClassifier): void {
  const names = served.inputs.map(({ name }) => name);
  const images = served.takes(PIXELS);
  for (const name of inputs.keys()) {
    if (names.includes(name) || (images && name === IMAGE)) continue;
    const expected = images ? [...names, IMAGE] : names;
    throw invalid(`unknown input ${JSON.stringify(name.slice(0, 140))}, expected ${expected.join(', ')}`);
  }
  for (const name of names) {
    if (inputs.has(name) || name === BUDGET) continue;
    if (name !== PIXELS) throw invalid(`input ${name} is missing`);
    if (!inputs.has(IMAGE)) throw invalid(`one of the inputs ${PIXELS} and ${IMAGE} is missing`);
  }
  if (inputs.has(PIXELS) && inputs.has(IMAGE))
    throw invalid(`inputs ${PIXELS} and ${IMAGE}: expected one of them, not both`);
}

/** The first dimension of the main input, which is the batch. */
function batchOf(inputs: ReadonlyMap<string, WireTensor>, maxBatch: number): number {
  const main = inputs.get(PIXELS) ?? inputs.get(IMAGE) ?? [...inputs.values()].find(({ name }) => name !== BUDGET);
  const batch = main?.dims[0] ?? 1;
  if (main && main.dims.length > 0 && (batch < 1 || batch > maxBatch)) {
    throw invalid(`input ${main.name}: batch of ${batch} samples, expected 1 to ${maxBatch}`);
  }
  return batch;
}

/** The tensor wins over the parameter, and that over the policy's default. */
function budgetsOf(
  maker: FeedMaker,
  served: ServedClassifier,
  asked: number | undefined,
  tensor: WireTensor | undefined,
  batch: number,
): Float32Array | undefined {
  const named = namedBudget(served, asked);
  if (!served.takes(BUDGET)) return undefined;
  if (tensor) return budgetTensor(tensor, batch);
  return new Float32Array(batch).fill(named ?? maker.budgets.budgetOf(served));
}

async function pixelsOf(
  { preprocess, maxImagePixels }: FeedMaker,
  { manifest }: ServedClassifier,
  { datatype, dims, data }: WireTensor,
  signal: AbortSignal,
): Promise<TensorValue> {
  if (datatype !== 'BYTES') throw invalid(`input ${IMAGE}: datatype ${datatype}, expected BYTES`);
  const [batch = 0] = dims;
  if (dims.length !== 2 || dims[1] !== 1)
    throw invalid(`input ${IMAGE}: shape [${dims.join(', ')}], expected [batch, 1]`);
  const { channels, height, width } = manifest.input;
  const size = channels * height * width;
  const pixels = new Float32Array(batch * size);
  const encoded = data as readonly Uint8Array[];
  await checkPixels(encoded, maxImagePixels);
  await Promise.all(
    encoded.map(async (bytes, index) => {
      const image = await preprocess(bytes, manifest.preprocessing, `image ${index} of the request`, signal);
      if (image.length !== size) {
        throw invalid(`image ${index} of the request: ${image.length} values once preprocessed, expected ${size}`);
      }
      pixels.set(image, index * size);
      release(image);
    }),
  );
  return { type: 'float32', dims: [batch, channels, height, width], data: pixels };
}

/** The answer to a NaN would be NaN, and what the stages kept would be no count of tokens. */
function checkFinite({ name, datatype, data }: WireTensor): void {
  if (datatype !== 'FP32' && datatype !== 'FP64') return;
  const values = data as Float32Array | Float64Array;
  // x − x is 0 for what is finite and NaN otherwise: no branch an element, since every element of every request comes by here.
  let sum = 0;
  for (let at = 0; at < values.length; at++) sum += values[at]! - values[at]!;
  if (sum === 0) return;
  const at = values.findIndex((value) => !Number.isFinite(value));
  throw invalid(`input ${name}: element ${at} is ${values[at]}, expected finite numbers`);
}

/** Reads the headers alone, so that a request that asks for too much costs next to nothing. */
async function checkPixels(encoded: readonly Uint8Array[], limit: number): Promise<void> {
  let total = 0;
  for (const [index, bytes] of encoded.entries()) total += await countPixels(bytes, `image ${index} of the request`);
  if (total > limit) {
    throw invalid(
      `input ${IMAGE}: ${(total / 1e6).toFixed(1)} megapixels over the ${encoded.length} images of the request, ` +
        `expected at most ${limit / 1e6}`,
    );
  }
}
