import { readTokens, type TextDataset } from '../../data/text/dataset.js';
import type { CausalSpec } from '../../models/architectures/gpt-neox.js';
import type { Session } from '../../runtime/runtime.js';
import type { TensorValue } from '../../runtime/tensor.js';
import type { LossMeasures } from '../measure/measure.js';
import { comparePositions, type PositionMeasures } from './comparison.js';

/** Windows that run together, with the unpruned model's last hidden rows. */
interface PreparedWindows {
  /** int64 [size, positions]. */
  readonly ids: TensorValue;
  readonly size: number;
  /** Of each window. */
  readonly documents: Int32Array;
  /** [size · (positions − 1), D]: of the positions that foretell a token of the window. */
  readonly dense: Float32Array;
  /** The tokens that follow them. */
  readonly targets: BigInt64Array;
}

/** Windows that are measured many times: read, and run through the unpruned model, once. */
export interface PreparedText {
  readonly spec: CausalSpec;
  readonly positions: number;
  readonly documents: number;
  readonly batches: readonly PreparedWindows[];
}

/** Bytes of hidden rows that one run gives. */
const hiddenBytes = 16 * 2 ** 20;

/** Windows of one run. */
export function windowsAtOnce({ hidden }: CausalSpec, positions: number): number {
  return Math.max(1, Math.min(16, Math.floor(hiddenBytes / (4 * hidden * positions))));
}

/** Reads windows and runs the unpruned network (`input_ids` → `final`) on them. */
export async function prepareWindows(
  dataset: TextDataset,
  indices: readonly number[],
  session: Session,
  spec: CausalSpec,
  options: { signal: AbortSignal; progress: (done: number) => void },
): Promise<PreparedText> {
  const { positions } = dataset;
  const batch = windowsAtOnce(spec, positions);
  const batches: PreparedWindows[] = [];
  const documents = new Set<number>();
  for (let from = 0; from < indices.length; from += batch) {
    options.signal.throwIfAborted();
    const part = indices.slice(from, from + batch);
    const read = await readTokens(dataset, part);
    for (const document of read.documents) documents.add(document);
    const ids: TensorValue = { type: 'int64', dims: [part.length, positions], data: read.ids };
    const dense = await hiddenOf(session, ids, {}, spec, options.signal);
    const targets = new BigInt64Array(part.length * (positions - 1));
    part.forEach((_, row) => {
      targets.set(read.ids.subarray(row * positions + 1, (row + 1) * positions), row * (positions - 1));
    });
    batches.push({ ids, size: part.length, documents: read.documents, dense, targets });
    options.progress(from + part.length);
  }
  return { spec, positions, documents: documents.size, batches };
}

/** The last hidden rows of every window but of its last position, after which nothing is known. */
async function hiddenOf(
  session: Session,
  ids: TensorValue,
  feeds: Readonly<Record<string, TensorValue>>,
  { hidden }: CausalSpec,
  signal: AbortSignal,
): Promise<Float32Array> {
  const { final } = await session.run({ input_ids: ids, ...feeds }, { signal });
  const rows = final!.data as Float32Array;
  const [size, positions] = [ids.dims[0]!, ids.dims[1]!];
  const kept = new Float32Array(size * (positions - 1) * hidden);
  for (let row = 0; row < size; row++) {
    const from = row * positions * hidden;
    kept.set(rows.subarray(from, from + (positions - 1) * hidden), row * (positions - 1) * hidden);
  }
  return kept;
}

/** Means over the positions of each document. */
export interface TextMeasures extends LossMeasures {
  /** Positions of each document. */
  readonly weights: Float64Array;
  readonly crossEntropyRise: Float64Array;
  /** Nats of a token of each document. */
  readonly denseLoss: Float64Array;
  readonly prunedLoss: Float64Array;
}

/**
 * Runs a pruned network (`input_ids` → `final`) over prepared windows, and compares position by position.
 * @param feeds what it takes beside the tokens for so many windows
 * @param comparison a session of `comparisonGraph`
 */
export async function measureWindows(
  session: Session,
  comparison: Session,
  text: PreparedText,
  feeds: (size: number) => Readonly<Record<string, TensorValue>>,
  signal: AbortSignal,
): Promise<TextMeasures> {
  const places = new Map<number, number>();
  const sums = {
    weights: new Float64Array(text.documents),
    kl: new Float64Array(text.documents),
    denseLoss: new Float64Array(text.documents),
    prunedLoss: new Float64Array(text.documents),
    denseCorrect: new Float64Array(text.documents),
    prunedCorrect: new Float64Array(text.documents),
  };
  for (const { ids, size, documents, dense, targets } of text.batches) {
    signal.throwIfAborted();
    const pruned = await hiddenOf(session, ids, feeds(size), text.spec, signal);
    const found = await comparePositions(comparison, text.spec, dense, pruned, targets);
    const perWindow = text.positions - 1;
    documents.forEach((document, row) => {
      const place = places.get(document) ?? places.size;
      places.set(document, place);
      addTo(sums, place, found, row * perWindow, (row + 1) * perWindow);
    });
  }
  const { weights } = sums;
  const mean = (values: Float64Array) => values.map((value, at) => value / weights[at]!);
  const [denseLoss, prunedLoss] = [mean(sums.denseLoss), mean(sums.prunedLoss)];
  return {
    weights,
    kl: mean(sums.kl),
    denseLoss,
    prunedLoss,
    crossEntropyRise: prunedLoss.map((loss, at) => loss - denseLoss[at]!),
    denseCorrect: mean(sums.denseCorrect),
    prunedCorrect: mean(sums.prunedCorrect),
  };
}

function addTo(
  sums: Readonly<
    Record<'weights' | 'kl' | 'denseLoss' | 'prunedLoss' | 'denseCorrect' | 'prunedCorrect', Float64Array>
  >,
  place: number,
  found: PositionMeasures,
  from: number,
  to: number,
): void {
  sums.weights[place]! += to - from;
  for (let at = from; at < to; at++) {
    sums.kl[place]! += found.kl[at]!;
    sums.denseLoss[place]! += found.denseLoss[at]!;
    sums.prunedLoss[place]! += found.prunedLoss[at]!;
    sums.denseCorrect[place]! += found.denseRight[at]!;
    sums.prunedCorrect[place]! += found.prunedRight[at]!;
  }
}
