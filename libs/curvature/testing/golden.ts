import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Dataset } from '../../data/dataset.js';
import { windowDataset, type TextDataset } from '../../data/text/dataset.js';
import { openCheckpoint, type Checkpoint } from '../../models/checkpoint.js';
import { readSafetensors, readTensor, readTensorBytes } from '../../models/safetensors.js';
import { tensorDataset } from './tensor-dataset.js';

/** Small checkpoints with second derivatives of PyTorch in float64 (golden.py beside them says what each tensor is). */
const folder = join(process.cwd(), '..', 'shared', 'golden');
export const goldenNames = ['vit', 'deit-distilled', 'gpt-neox'] as const;
export const skipGolden = existsSync(folder) ? false : 'no ../shared/golden with references from PyTorch';

export interface Golden {
  readonly checkpoint: Checkpoint;
  readonly dataset: Dataset | TextDataset;
  /** Of all samples, in order. */
  readonly indices: readonly number[];
  numbers(name: string): Promise<Float32Array>;
  shape(name: string): readonly number[];
  readonly metadata: Readonly<Record<string, string>>;
}

/** Opens a golden checkpoint with its inputs: images with labels, or windows of tokens. */
export async function openGolden(name: (typeof goldenNames)[number]): Promise<Golden> {
  const checkpoint = await openCheckpoint(join(folder, name));
  const { tensors, metadata } = await readSafetensors(join(folder, name, 'reference.safetensors'));
  const located = (key: string) => tensors.get(key) ?? assert.fail(`the reference has no ${key}`);
  const numbers = (key: string) => readTensor(located(key));
  const dataset = tensors.has('input_ids')
    ? windows(await readTensorBytes(located('input_ids')), located('input_ids').shape)
    : tensorDataset(await numbers('pixel_values'), await labelsOf());
  const indices = [...Array(dataset.size).keys()];
  return { checkpoint, dataset, indices, numbers, shape: (key) => located(key).shape, metadata };
}

async function labelsOf(): Promise<number[]> {
  return (JSON.parse(await readFile(join(folder, 'labels.json'), 'utf8')) as { labels: number[] }).labels;
}

function windows(bytes: Uint8Array, [rows, positions]: readonly number[]): TextDataset {
  const ids = Int32Array.from(new BigInt64Array(bytes.slice().buffer), Number);
  const documents = Array.from({ length: rows! }, (_, row) => ({
    name: `#${row}`,
    ids: ids.slice(row * positions!, (row + 1) * positions!),
  }));
  return windowDataset('windows', documents, positions!);
}
