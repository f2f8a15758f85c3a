import type { VisionFamily } from './transformer.js';

const specialTokens = ['cls_token', 'distillation_token'];

/** DeiTForImageClassification (Touvron et al. 2021, Training data-efficient image transformers): reads the class token. */
export const deit: VisionFamily = {
  prefix: 'deit',
  specialTokens,
  classifiers: [{ name: 'classifier', token: 0 }],
};

/** DeiTForImageClassificationWithTeacher: the mean of the class token's and the distillation token's logits. */
export const deitWithTeacher: VisionFamily = {
  prefix: 'deit',
  specialTokens,
  classifiers: [
    { name: 'cls_classifier', token: 0 },
    { name: 'distillation_classifier', token: 1 },
  ],
};
