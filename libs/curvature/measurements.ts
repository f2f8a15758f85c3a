import type { Dataset } from '../data/dataset.js';
import type { TextDataset } from '../data/text/dataset.js';
import { internal, invalid } from '../errors/error.js';
import { asFloat32, type Checkpoint } from '../models/checkpoint.js';
import { bitMoves } from './bits.js';
import { openDivergenceSlopes, type SettledDivergence } from './divergence-slopes.js';
import type { CurvatureContext } from './estimate.js';
import { openFactors, type SettledFactors } from './factors.js';
import { networkOf } from './networks.js';
import { openPromptCurvature, type SettledPrompts } from './prompt-curvature.js';
import { openSeamCurvature, type SettledSeams } from './seam-curvature.js';
import { openSeamScores, type SettledSeamScores } from './seam-scores.js';
import type { OpenMeasurement } from './shards.js';
import { openSlopes, type SettledSlopes } from './slopes.js';

type Context = Pick<CurvatureContext, 'runtime' | 'workDirectory'>;
type Open = (
  checkpoint: Checkpoint,
  dataset: Dataset | TextDataset,
  options: never,
  context: Context,
) => Promise<OpenMeasurement<unknown>>;

/** Every measurement that is taken in shards, by its name in a request: how another process opens it. */
const measurements = {
  'seam-curvature': (checkpoint, dataset, options: SettledSeams, context) =>
    openSeamCurvature(checkpoint, images(dataset), options, context),
  'seam-scores': (checkpoint, dataset, options: SettledSeamScores, context) =>
    openSeamScores(checkpoint, images(dataset), options, context),
  'divergence-slopes': (checkpoint, dataset, options: SettledDivergence, context) =>
    openDivergenceSlopes(networkOf(checkpoint, dataset), options, context),
  slopes: (checkpoint, dataset, options: SettledSlopes, context) =>
    openSlopes(networkOf(checkpoint, dataset), options, context),
  'prompt-curvature': (checkpoint, dataset, options: SettledPrompts, context) =>
    openPromptCurvature(checkpoint, windows(dataset), options, context),
  factors: async (checkpoint, dataset, options: SettledFactors, context) => {
    const all = options.moves.length > 0 ? await bitMoves(checkpoint, context.workDirectory) : [];
    const moves = options.moves.map(({ matrix, bits }) => {
      const found = all.find((move) => move.matrix === matrix && move.bits === bits);
      if (!found) throw internal(`there is no move of ${matrix} to ${bits} bits`);
      return found;
    });
    return openFactors(networkOf(checkpoint, dataset), options, moves, context);
  },
} as const satisfies Record<string, Open>;

export const MEASUREMENTS = Object.keys(measurements);

/**
 * Opens a measurement by its name, with options as a `ShardedRequest` has them. Throws INVALID_ARGUMENT for a name that this process does not
 * know, or data of another kind than it measures.
 */
export async function openMeasurement(
  { measurement, options }: { readonly measurement: string; readonly options: unknown },
  checkpoint: Checkpoint,
  dataset: Dataset | TextDataset,
  context: Context,
): Promise<OpenMeasurement<unknown>> {
  if (!Object.hasOwn(measurements, measurement))
    throw invalid(
      `measurement: ${measurement}, expected one of ${MEASUREMENTS.join(', ')} (a worker of another release?)`,
    );
  const open: Open = measurements[measurement as keyof typeof measurements];
  return open(await asFloat32(checkpoint, context.workDirectory), dataset, options as never, context);
}

function images(dataset: Dataset | TextDataset): Dataset {
  if ('positions' in dataset) throw invalid(`${dataset.name} holds text, expected images`);
  return dataset;
}

function windows(dataset: Dataset | TextDataset): TextDataset {
  if ('positions' in dataset) return dataset;
  throw invalid(`${dataset.name} holds images, expected text`);
}
