import { join } from 'node:path';
import type { Dataset } from '../../data/dataset.js';
import { windowDataset, type TextDataset } from '../../data/text/dataset.js';
import { openCheckpoint, type Checkpoint } from '../../models/checkpoint.js';
import { writeRandomCausalLm, type RandomCausalShape } from '../../models/testing/random-causal.js';
import { writeRandomCheckpoint, type RandomShape } from '../../models/testing/random-checkpoint.js';
import { tensorDataset } from './tensor-dataset.js';

const shape: RandomShape = {
  hidden: 16,
  layers: 2,
  heads: 2,
  intermediate: 12,
  imageSize: 8,
  patchSize: 4,
  classes: 4,
  seed: 3,
};

/** A small vision transformer with random weights and samples with labels for it: 5 tokens, 2 blocks of 2 heads and 12 neurons. */
export async function smallModel(
  folder: string,
  changes: Partial<RandomShape> = {},
): Promise<{ checkpoint: Checkpoint; dataset: Dataset }> {
  const { classes, imageSize } = { ...shape, ...changes };
  const name = `small-${Object.values(changes).join('-')}`;
  const checkpoint = await openCheckpoint(await writeRandomCheckpoint(join(folder, name), { ...shape, ...changes }));
  const samples = 5;
  const pixels = Float32Array.from(
    { length: samples * 3 * imageSize ** 2 },
    (_, i) => 1.5 * Math.sin(12.9898 * i + 0.3 * (i % 7)),
  );
  return {
    checkpoint,
    dataset: tensorDataset(
      pixels,
      Array.from({ length: samples }, (_, i) => (3 * i) % classes),
    ),
  };
}

const causalShape: RandomCausalShape = {
  hidden: 16,
  layers: 2,
  heads: 2,
  intermediate: 12,
  vocabulary: 11,
  context: 8,
  seed: 3,
};

/** A small language model with random weights and windows of text for it: 5 tokens, 2 blocks of 2 heads and 12 neurons. */
export async function smallLanguageModel(
  folder: string,
  changes: Partial<RandomCausalShape> = {},
): Promise<{ checkpoint: Checkpoint; dataset: TextDataset }> {
  const { vocabulary } = { ...causalShape, ...changes };
  const name = `small-text-${JSON.stringify(changes).replaceAll(/\W+/g, '-')}`;
  const checkpoint = await openCheckpoint(
    await writeRandomCausalLm(join(folder, name), { ...causalShape, ...changes }),
  );
  const positions = 5;
  const documents = Array.from({ length: 5 }, (_, d) => ({
    name: `document ${d}`,
    ids: Int32Array.from({ length: positions }, (_, i) => (7 * d + 3 * i * i + d * i) % vocabulary),
  }));
  return { checkpoint, dataset: windowDataset('windows', documents, positions) };
}
