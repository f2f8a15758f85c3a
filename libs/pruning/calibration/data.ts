import { splitIndices, type Parts } from '../../data/batch.js';
import type { Dataset } from '../../data/dataset.js';
import { openDataset } from '../../data/open.js';
import { permutation, randomFor } from '../../data/random.js';
import { invalid } from '../../errors/error.js';
import type { Checkpoint } from '../../models/checkpoint.js';
import { leastSamples } from '../statistics/bound.js';

/** Calibration data, split once by seed: to fit scores and predictors, to search thresholds, to certify the plan. */
export interface CalibrationData {
  readonly dataset: Dataset;
  readonly parts: Parts;
}

/** Samples used unless told: more make the bound tighter, and everything slower. */
export const defaultSamples = 2000;
/** Half to fit; what is searched and what is certified are means over samples and need fewer. */
const fractions = { fit: 0.5, search: 0.25, certify: 0.25 };
/** Which share of the samples certifies. */
export const certifyingShare = fractions.certify;

/** Opens and splits calibration data. Throws what `openDataset` throws; INVALID_ARGUMENT when there are too few samples. */
export async function openCalibration(
  checkpoint: Checkpoint,
  request: { readonly data: string; readonly samples?: number; readonly seed: number },
): Promise<CalibrationData> {
  const classes = checkpoint.labels;
  const dataset = await openDataset(request.data, checkpoint.preprocessing, classes.length > 0 ? { classes } : {});
  if (dataset.size === 0) throw invalid(`${request.data}: no samples, expected calibration data`);
  const used = Math.min(dataset.size, request.samples ?? defaultSamples);
  const least = Math.ceil(leastSamples / fractions.certify);
  if (used < least) {
    throw invalid(
      `${request.data}: ${used} samples, expected ${least} or more: a quarter of them certifies, and fewer say nothing of a tail`,
    );
  }
  const order = permutation(dataset.size, randomFor(request.seed, dataset.size)).slice(0, used);
  const places = splitIndices(used, request.seed, fractions, dataset.name);
  const pick = (part: readonly number[]) => part.map((at) => order[at]!);
  return {
    dataset,
    parts: { fit: pick(places.fit), search: pick(places.search), certify: pick(places.certify) },
  };
}

/** Throws INVALID_ARGUMENT unless a policy that learns from labels has them. */
export function requireLabels(dataset: Dataset, data: string, what: string): void {
  if (!dataset.labelled) {
    throw invalid(`${data}: ${what} needs labels, expected data that have them`);
  }
}
