import { taskOf } from '../models/architectures/index.js';
import type { Checkpoint } from '../models/checkpoint.js';
import { openCalibration } from './calibration/data.js';
import type { SplitData } from './job.js';
import type { PruneRequest } from './request.js';
import { openTextCalibration } from './text/data.js';

/** The calibration data that a request names, as the model takes them, split. Throws as `openCalibration` and `openTextCalibration`. */
export function openSplitData(
  checkpoint: Checkpoint,
  request: Pick<PruneRequest, 'data' | 'samples' | 'seed' | 'window'>,
): Promise<SplitData> {
  switch (taskOf(checkpoint)) {
    case 'image-classification':
      return openCalibration(checkpoint, request);
    case 'text-generation':
      return openTextCalibration(checkpoint, request);
  }
}
