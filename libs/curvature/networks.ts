import type { Dataset } from '../data/dataset.js';
import type { Checkpoint } from '../models/checkpoint.js';
import { imageNetwork } from './image-network.js';
import type { Network } from './network.js';

/** A checkpoint with float32 weights, for samples of a dataset. Throws INVALID_ARGUMENT where the data are not what the model takes. */
export function networkOf(checkpoint: Checkpoint, _dataset: Dataset): Network {
  return imageNetwork(checkpoint);
}
