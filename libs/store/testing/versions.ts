import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ManifestDraft } from '../publish.js';

/** A draft that fits the schema, for tests. */
export function sampleDraft(overrides: Partial<ManifestDraft> = {}): ManifestDraft {
  return {
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

/** A `fill` for {@link Repository.publish} that writes a small model.onnx and an external data file. */
export function fillWith(overrides: Partial<ManifestDraft> = {}, content = 'weights') {
  return async (directory: string): Promise<ManifestDraft> => {
    await writeFile(join(directory, 'model.onnx'), `model ${content}`);
    await writeFile(join(directory, 'model.data'), content);
    return sampleDraft(overrides);
  };
}
