import type { VisionFamily } from './transformer.js';

/** ViTForImageClassification (Dosovitskiy et al. 2021, An image is worth 16×16 words). */
export const vit: VisionFamily = {
  prefix: 'vit',
  specialTokens: ['cls_token'],
  classifiers: [{ name: 'classifier', token: 0 }],
};
