/**
 * The recipe of the bundled checkpoint models/demo-brown: a GPT-NeoX over bytes, of which three quarters of the tokens are read in windows of
 * half its context: what is near tells most of the next byte, and the rotary positions carry over. The learning rate comes down in the last
 * quarter, on whole windows.
 */
import { byteVocabulary } from '../../data/text/byte-tokenizer.js';
import type { TextRecipe } from '../text-task.js';

export const brownRecipe: TextRecipe = {
  seed: 0,
  model: {
    vocabulary: byteVocabulary,
    context: 256,
    hidden: 128,
    layers: 6,
    heads: 4,
    intermediate: 512,
    rotary: 0.25,
    epsilon: 1e-5,
  },
  phases: [
    { positions: 128, steps: 3000, batch: 8 },
    { positions: 256, steps: 1000, batch: 4 },
  ],
  shards: 2,
  schedule: { peak: 2e-3, warmupSteps: 150, floor: 0.02, span: 1.5, cooldown: 0.25 },
  optimiser: { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weightDecay: 0.05 },
  clip: 1,
};
