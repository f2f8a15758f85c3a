import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ImageManifestDraft, TextManifestDraft } from '../publish.js';

/** A draft that fits the schema, for tests. */
export function sampleDraft(overrides: Partial<ImageManifestDraft> = {}): ImageManifestDraft {
  return {
    task: 'image-classification',
    parent: null,
    architecture: 'ViTForImageClassification',
    checkpointDigest: 'a'.repeat(64),
    dataDigest: null,
    method: null,
    plan: null,
    input: { height: 8, width: 8, channels: 3 },
    labels: ['cat', 'dog'],
    preprocessing: {
      size: { height: 8, width: 8 },
      resample: 'bilinear',
      resize: true,
      rescale: 1 / 255,
      mean: [0.5, 0.5, 0.5],
      std: [0.5, 0.5, 0.5],
      channels: 3,
    },
    tokens: { total: 5, special: 1, stages: [] },
    flops: { dense: 1000, mean: 1000, segments: [{ constant: 0, linear: 1, quadratic: 2 }] },
    budget: null,
    deltaLoss: null,
    accuracy: null,
    ...overrides,
  };
}

/** As `sampleDraft`, of a language model of two blocks. */
export function sampleTextDraft(overrides: Partial<TextManifestDraft> = {}): TextManifestDraft {
  return {
    task: 'text-generation',
    parent: null,
    architecture: 'GPTNeoXForCausalLM',
    checkpointDigest: 'a'.repeat(64),
    dataDigest: null,
    method: null,
    plan: null,
    text: {
      tokenizer: 'tokenizer.json',
      context: 32,
      vocabulary: 64,
      bos: 0,
      eos: [0],
      caches: [
        { heads: 4, width: 8 },
        { heads: 3, width: 8 },
      ],
      stages: [],
      defaults: {},
    },
    flops: { dense: 1000, mean: 1000, segments: [{ constant: 0, linear: 1, quadratic: 2 }] },
    budget: null,
    deltaLoss: null,
    accuracy: null,
    perplexity: null,
    ...overrides,
  };
}

/** A `fill` for {@link Repository.publish} that writes a small model.onnx and an external data file. */
export function fillWith(overrides: Partial<ImageManifestDraft> = {}, content = 'weights') {
  return async (directory: string): Promise<ImageManifestDraft> => {
    await writeFile(join(directory, 'model.onnx'), `model ${content}`);
    await writeFile(join(directory, 'model.data'), content);
    return sampleDraft(overrides);
  };
}
