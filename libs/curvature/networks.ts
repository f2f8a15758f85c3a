import type { Dataset } from '../data/dataset.js';
import type { TextDataset } from '../data/text/dataset.js';
import { invalid } from '../errors/error.js';
import { taskOf } from '../models/architectures/index.js';
import type { Checkpoint } from '../models/checkpoint.js';
import { imageNetwork } from './image-network.js';
import type { Network } from './network.js';
import { textNetwork } from './text-network.js';

/**
 * A checkpoint with float32 weights, over the samples of a dataset. Throws INVALID_ARGUMENT where the data are not what the model takes,
 * or the checkpoint is of no known architecture.
 */
export function networkOf(checkpoint: Checkpoint, dataset: Dataset | TextDataset): Network {
  const text = 'positions' in dataset;
  const task = taskOf(checkpoint);
  if (text && task === 'text-generation') return textNetwork(checkpoint, dataset);
  if (!text && task === 'image-classification') return imageNetwork(checkpoint, dataset);
  throw invalid(`${dataset.name} holds ${text ? 'text' : 'images'}, ${checkpoint.directory} is for ${task}`);
}
