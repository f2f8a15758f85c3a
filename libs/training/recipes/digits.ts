/**
 * The recipe of the bundled checkpoint models/demo-digits. Most steps see windows of 32×32 and 40×40 pixels (17 and 26 of the 65
 * tokens): there the network learns what digits look like, at a third of the cost; the last steps, on whole canvases, teach it to
 * find them. In a trial at equal cost (8 minutes of CPU time, no distortion, width 128), whole canvases from the start reached
 * 74.4 % of the validation split where windows reached 84.3 %. Distortion is there because 8,000 digits are soon known by heart.
 */
import type { ImageRecipe } from '../image-task.js';

export const digitsRecipe: ImageRecipe = {
  seed: 0,
  model: {
    imageSize: 64,
    patchSize: 8,
    channels: 3,
    hidden: 96,
    layers: 6,
    heads: 4,
    intermediate: 288,
    classes: 10,
    epsilon: 1e-6,
  },
  preprocessing: {
    size: { height: 64, width: 64 },
    resample: 'bilinear',
    resize: true,
    rescale: 1 / 255,
    // About the mean and the deviation of the canvases.
    mean: [0.1, 0.1, 0.1],
    std: [0.28, 0.28, 0.28],
    channels: 3,
  },
  phases: [
    { side: 32, steps: 3000, batch: 64 },
    { side: 40, steps: 5000, batch: 64 },
    { side: 64, steps: 4000, batch: 64 },
  ],
  shards: 2,
  schedule: { peak: 2e-3, warmupSteps: 200, floor: 0.01 },
  optimiser: { beta1: 0.9, beta2: 0.98, epsilon: 1e-8, weightDecay: 0.05 },
  clip: 1,
  labelSmoothing: 0.05,
  augmentation: { flip: false, shift: 0 },
  distortion: 1,
};
